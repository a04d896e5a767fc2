// Tells in which words listening fails.
'use strict';
const net = require('node:net');
const dgram = require('node:dgram');

const { PORT, HOST, SOCKET, KIND } = process.env;
const tell = (error) => {
  const { code, syscall, address, port, message } = error;
  console.log('error', JSON.stringify({ code, syscall, address, port, message }));
  process.exit(0);
};
const done = () => {
  console.log('error', 'none');
  process.exit(0);
};
if (KIND === 'udp') dgram.createSocket('udp4').on('error', tell).bind(Number(PORT), HOST, done);
else if (SOCKET) net.createServer().on('error', tell).listen(SOCKET, done);
else net.createServer().on('error', tell).listen(Number(PORT), HOST, done);
