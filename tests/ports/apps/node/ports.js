// A server on each of several ports.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

for (const port of process.env.PORTS.split(',')) http.createServer(answer).listen(Number(port), '127.0.0.1');
