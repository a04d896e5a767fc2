// Asks for a socket that the cluster does not share.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

http.createServer(answer).listen({ port: Number(process.env.PORT), host: '127.0.0.1', exclusive: true });
