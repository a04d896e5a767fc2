// A small HTTP server, as rinit's workers. Under Docker: see the Dockerfile beside it. From a checkout:
//   cargo run --release -- -i 2 -- node examples/node/app.js
'use strict';
const fs = require('node:fs');
const http = require('node:http');

const worker = Number(process.env.RINIT_WORKER ?? 0);
let stopping = false;

const server = http.createServer((request, response) => {
  const answer = (text) => {
    // A client that keeps its connection is told to come again on a new one, which another worker takes.
    if (stopping) response.setHeader('connection', 'close');
    response.setHeader('content-type', 'text/plain');
    response.end(text);
  };
  switch (request.url) {
    case '/':
      return answer(`worker ${worker}, process ${process.pid}\n`);
    case '/slow':
      return setTimeout(() => answer(`worker ${worker}, process ${process.pid}, after 300 ms\n`), 300);
    case '/healthz':
      return answer('ok\n');
    default:
      response.statusCode = 404;
      return answer('nothing here\n');
  }
});

server.on('error', (error) => {
  console.error(`worker ${worker} cannot listen: ${error.message}`);
  process.exitCode = 1;
});

function listening(where) {
  console.log(`worker ${worker}, process ${process.pid}, listens on ${where}`);
  // --ready fd:N: a newline there says that this worker serves.
  if (process.env.READY_FD) fs.writeSync(Number(process.env.READY_FD), '\n');
}

if (process.env.LISTEN_FDS) {
  // --listen: rinit has opened the socket, and all workers share it.
  server.listen({ fd: 3 }, () => listening('the socket that rinit keeps'));
} else {
  // No socket was handed over: a port each.
  const port = Number(process.env.PORT ?? 8080) + worker;
  server.listen(port, () => listening(`http://localhost:${port}`));
}

process.on('SIGTERM', () => {
  stopping = true;
  console.log(`worker ${worker}, process ${process.pid}, answers what it has and ends`);
  server.close();
  server.closeIdleConnections();
});
