// Asks if its port is free, as `serve` and port finders do, and takes the next one if it is not.
const net = require('net');
const port = Number(process.env.PORT);

const connects = () => new Promise((done) => {
  const socket = net.connect(port, '127.0.0.1', () => done(true) || socket.destroy());
  socket.on('error', () => done(false));
});
const listens = (options) => new Promise((done) => {
  const server = net.createServer().on('error', (error) => done(error.code));
  server.listen(options, () => server.close(() => done('free')));
});

(async () => {
  console.log(`connect: ${await connects() ? 'taken' : 'free'}`);
  for (const host of [undefined, '0.0.0.0', '127.0.0.1']) console.log(`listen: ${await listens({ port, host })}`);
  require('http').createServer((request, answer) => answer.end(`pid ${process.pid}\n`)).listen(port, async () => {
    console.log(`served: ${await connects() ? 'taken' : 'free'}`);
  });
})();
