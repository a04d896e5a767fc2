// What every app here answers: which process, and which worker of the cluster.
'use strict';
const cluster = require('node:cluster');

const me = `pid ${process.pid} worker ${process.env.RINIT_WORKER} id ${cluster.worker ? cluster.worker.id : 'none'}\n`;

module.exports = {
  me,
  // An HTTP request listener.
  answer(request, response) {
    const end = () => {
      response.setHeader('content-type', 'text/plain');
      response.setHeader('content-length', Buffer.byteLength(me));
      response.end(me);
    };
    if (request.url === '/crash') process.kill(process.pid, 'SIGKILL');
    else if (request.url === '/block') {
      const until = Date.now() + 500;
      while (Date.now() < until);
      end();
    } else if (request.url === '/slow') request.resume().on('end', () => setTimeout(end, 300));
    else end();
  },
};
