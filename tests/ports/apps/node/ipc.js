// What a worker sees of the cluster, and what it can say to its primary.
'use strict';
const cluster = require('node:cluster');
const net = require('node:net');
const http = require('node:http');
const { answer } = require('./answer.js');

const { isPrimary, isMaster, isWorker, worker } = cluster;
console.log('cluster', JSON.stringify({ isPrimary, isMaster, isWorker, id: worker && worker.id }));
console.log('process', JSON.stringify({ send: typeof process.send, connected: process.connected }));
console.log('worker', JSON.stringify({ connected: worker.isConnected(), dead: worker.isDead(), fork: typeof cluster.fork }));
const kept = ['NODE_UNIQUE_ID', 'NODE_CHANNEL_FD'].filter((name) => name in process.env);
console.log('variables', JSON.stringify(kept));

process.on('disconnect', () => console.log('disconnected', worker.exitedAfterDisconnect));
worker.on('message', (message) => console.log('got', JSON.stringify(message)));

const server = http.createServer((request, response) => {
  if (request.url === '/disconnect') {
    response.setHeader('connection', 'close');
    response.on('finish', () => worker.disconnect());
  }
  answer(request, response);
});
server.listen(Number(process.env.PORT), () => {
  for (const value of ['text', 7, true, null, { nested: ['\u2028', 'ü'] }]) {
    process.send(value, (error) => console.log('sent', JSON.stringify(value), error ? error.message : 'well'));
  }
  // A socket for the primary, who has no use for it: what is sent after it must not wait for ever.
  const pair = net.connect(Number(process.env.PORT), () => {
    process.send('a socket', pair);
    process.send('after the socket', () => console.log('sent what came after the socket'));
  });
});
