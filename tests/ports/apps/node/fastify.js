'use strict';
const fastify = require('fastify');
const { me } = require('./answer.js');

const app = fastify();
app.get('/', async () => me);
app.get('/slow', (_, reply) => {
  setTimeout(() => reply.send(me), 300);
});
app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' });
