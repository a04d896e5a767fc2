// A small HTTP server, written for one process: one port, no cluster, no signal handlers. With rinit its workers share the
// port, and a worker that is asked to stop finishes its requests first. For Docker see the Dockerfile. From a checkout:
//   cargo run --release -- -i 2 -- node examples/node/app.js
'use strict';
const http = require('node:http');

const port = process.env.PORT || 8080;
const me = `worker ${process.env.RINIT_WORKER ?? 0}, process ${process.pid}`;

const server = http.createServer((request, response) => {
  const answer = (text) => {
    response.setHeader('content-type', 'text/plain');
    response.end(text);
  };
  switch (request.url) {
    case '/':
      return answer(`${me}\n`);
    case '/slow':
      return setTimeout(() => answer(`${me}, after 300 ms\n`), 300);
    case '/healthz':
      return answer('ok\n');
    default:
      response.statusCode = 404;
      return answer('nothing here\n');
  }
});

server.listen(port, () => console.log(`${me}, listens on http://localhost:${port}`));
