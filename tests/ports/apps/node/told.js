// A server that tells its address when it begins to listen, and when it is closed.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

const server = http.createServer(answer);
const tell = (when) => console.log(`${when} ${JSON.stringify(server.address())}`);
const { close } = server;
server.close = function (...rest) {
  tell('closes');
  return close.apply(this, rest);
};
server.listen(Number(process.env.PORT), '127.0.0.1', () => tell('listens'));
