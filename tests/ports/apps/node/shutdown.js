// pm2's conventions: says 'ready' when it is, and ends when it is told 'shutdown'. With DEAF only SIGTERM ends it.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

const server = http.createServer(answer);
const end = () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections?.();
};
process.on('SIGTERM', () => {
  console.log('got SIGTERM');
  if (process.env.DEAF) end();
});
process.on('message', (message) => {
  if (message !== 'shutdown') return;
  if (process.env.DEAF) return console.log('heard and ignored shutdown');
  console.log('got shutdown');
  end();
});
server.listen(Number(process.env.PORT), () => process.send('ready'));
