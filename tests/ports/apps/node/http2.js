'use strict';
const fs = require('node:fs');
const path = require('node:path');
const http2 = require('node:http2');
const { me } = require('./answer.js');

const pem = fs.readFileSync(path.join(__dirname, 'test-certificate.pem'));
const server = http2.createSecureServer({ key: pem, cert: pem });
server.on('stream', (stream) => {
  stream.respond({ ':status': 200, 'content-type': 'text/plain' });
  stream.end(me);
});
server.listen(Number(process.env.PORT));
