// Two servers, each on a port that the system chooses.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

for (const name of ['first', 'second']) {
  const server = http.createServer(answer);
  server.listen(0, '127.0.0.1', () => console.log(`${name} port ${server.address().port}`));
}
