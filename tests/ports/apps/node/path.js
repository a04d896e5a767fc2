// A unix socket.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

http.createServer(answer).listen(process.env.SOCKET);
