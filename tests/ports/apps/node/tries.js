// Finds out whether its port is free, by listening there on every address and on one, and then serves.
'use strict';
const http = require('node:http');
const net = require('node:net');
const { answer } = require('./answer.js');

const port = Number(process.env.PORT);
function tries(hosts, done) {
  if (hosts.length === 0) return done();
  const server = net.createServer();
  server.on('error', (error) => console.log(`${hosts[0]} is not free: ${error.message}`));
  server.listen(port, hosts[0], () => server.close(() => tries(hosts.slice(1), done)));
}
tries(['0.0.0.0', '127.0.0.1', '0.0.0.0'], () => {
  http.createServer(answer).listen(port, '127.0.0.1', () => console.log('serves'));
});
