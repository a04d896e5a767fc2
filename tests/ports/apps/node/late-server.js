// An app that listens only after it was asked to stop: the event loop is busy until the file GATE is there, and for a moment
// after listen().
'use strict';
const fs = require('node:fs');
const { answer } = require('./answer.js');

if (process.env.HANDLES) process.on('SIGTERM', () => server.close((error) => console.log('closed', error ? error.code : 'well')));
console.log('loading');
const pause = new Int32Array(new SharedArrayBuffer(4));
while (!fs.existsSync(process.env.GATE)) Atomics.wait(pause, 0, 0, 10);
const server = require('node:http').createServer(answer).listen(Number(process.env.PORT));
const until = Date.now() + 300;
while (Date.now() < until);
