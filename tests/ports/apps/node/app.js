// The unmodified server: no signal handler, no cluster, a port as if it were alone.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

http.createServer(answer).listen(Number(process.env.PORT ?? 8080));
