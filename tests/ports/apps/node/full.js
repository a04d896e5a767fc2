// A server that is left without a free descriptor on /full, until SIGUSR2.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { execFileSync } = require('node:child_process');
const { answer } = require('./answer.js');

const taken = [];
function fill() {
  try {
    for (;;) taken.push(fs.openSync('/dev/null'));
  } catch (error) {
    console.log(`full: ${error.code}`);
  }
}
process.on('SIGUSR2', () => taken.splice(0).forEach((fd) => fs.closeSync(fd)));

const server = http.createServer((request, response) => {
  if (request.url === '/full') {
    execFileSync('prlimit', ['--pid', String(process.pid), '--nofile=100:']);
    request.socket.on('close', () => setImmediate(fill));
  }
  answer(request, response);
});
server.listen(Number(process.env.PORT));
