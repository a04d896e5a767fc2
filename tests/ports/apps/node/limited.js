// A server that takes one connection at a time.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

const server = http.createServer(answer);
server.maxConnections = 1;
server.listen(Number(process.env.PORT));
