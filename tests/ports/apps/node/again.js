// Removes its socket's file, listens there, and closes, again and again: each means a new file, and ends another's.
'use strict';
const fs = require('node:fs');
const net = require('node:net');

function again(times) {
  if (times === 0) return console.log('done');
  fs.rmSync(process.env.SOCKET, { force: true });
  const server = net.createServer();
  const next = () => setTimeout(() => again(times - 1), 2);
  server.on('error', next);
  server.listen(process.env.SOCKET, () => setTimeout(() => server.close(next), 2));
}
again(200);
setInterval(() => {}, 1000);
