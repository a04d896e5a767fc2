'use strict';
const fs = require('node:fs');
const path = require('node:path');
const http2 = require('node:http2');
const { me } = require('./answer.js');

const pem = fs.readFileSync(path.join(__dirname, 'test-certificate.pem'));
const server = process.env.PLAIN ? http2.createServer() : http2.createSecureServer({ key: pem, cert: pem });
server.on('stream', (stream, headers) => {
  const respond = () => {
    stream.respond({ ':status': 200, 'content-type': 'text/plain' });
    stream.end(me);
  };
  setTimeout(respond, headers[':path'] === '/slow' ? 300 : Math.random() * 20);
});
server.listen(Number(process.env.PORT));
