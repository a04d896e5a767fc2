// An app that handles its stop signal, in the way that KIND names. It prints `cleanup` when it has stopped in order, and
// `failed` with the reason when it could not.
'use strict';
const http = require('node:http');
const { promisify } = require('node:util');
const { answer } = require('./answer.js');

const port = Number(process.env.PORT);
const signal = process.env.SIGNAL || 'SIGTERM';
const done = (error) => {
  if (error) {
    console.log('failed', error.code || error.message);
    process.exit(1);
  }
  console.log('cleanup');
};
const exit = (error) => {
  done(error);
  process.exit(0);
};
process.on('unhandledRejection', exit);
const server = () => http.createServer(answer).listen(port);
// What a database pool does: the process lives until it is closed.
const pool = process.env.POOL ? setInterval(() => {}, 1000) : undefined;

const kinds = {
  close() {
    const open = server();
    process.on(signal, () => open.close((error) => (clearInterval(pool), done(error))));
  },
  'promisified close'() {
    const open = server();
    process.on(signal, () => promisify(open.close.bind(open))().then(exit, exit));
  },
  asyncDispose() {
    const open = server();
    process.on(signal, () => open[Symbol.asyncDispose]().then(() => exit(), exit));
  },
  exit() {
    server();
    process.on(signal, () => exit());
  },
  later() {
    server();
    process.on(signal, () => setTimeout(exit, 700));
  },
  slowly() {
    server();
    process.on(signal, () => console.log('got', signal));
    process.once(signal, () => setTimeout(exit, 5500));
  },
  express() {
    const app = require('express')();
    app.get('/{*path}', (request, response) => answer(request, response));
    const open = app.listen(port);
    process.on(signal, () => open.close(exit));
  },
  'http-terminator'() {
    const { createHttpTerminator } = require('http-terminator');
    const terminator = createHttpTerminator({ server: server() });
    process.on(signal, () => terminator.terminate().then(exit, exit));
  },
  stoppable() {
    const open = require('stoppable')(http.createServer(answer), 1000).listen(port);
    process.on(signal, () => open.stop(exit));
  },
  terminus() {
    const open = http.createServer(answer);
    const logger = (text, error) => console.log('failed', text, error && error.code);
    require('@godaddy/terminus').createTerminus(open, { signal, logger, onSignal: async () => done() });
    open.listen(port);
  },
  'http-graceful-shutdown'() {
    require('http-graceful-shutdown')(server(), { signals: signal, development: false, onShutdown: async () => done() });
  },
  'close-with-grace'() {
    const app = require('fastify')();
    app.get('/*', (request, reply) => (reply.hijack(), answer(request.raw, reply.raw)));
    app.addHook('onClose', async () => done());
    require('close-with-grace')(async ({ err }) => {
      if (err) done(err);
      await app.close();
    });
    // Without a host it listens at two addresses, one after the other.
    app.listen({ port, host: '127.0.0.1' });
  },
};
kinds[process.env.KIND || 'close']();
