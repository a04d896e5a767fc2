// Tells every client to stay, in each way that Node has for it.
'use strict';
const http = require('node:http');

let count = 0;
const ways = [
  (response) => response.setHeader('Connection', 'keep-alive'),
  (response) => response.writeHead(200, { connection: 'Keep-Alive' }),
  (response) => response.writeHead(200, 'Fine', ['Connection', 'keep-alive']),
];

http
  .createServer((request, response) => {
    const way = ways[count++ % ways.length];
    const send = () => {
      way(response);
      response.end(`pid ${process.pid}`);
    };
    if (request.url === '/slow') setTimeout(send, 300);
    else send();
  })
  .listen(Number(process.env.PORT ?? 8080));
