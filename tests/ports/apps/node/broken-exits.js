// A version that listens, and then exits.
'use strict';
const http = require('node:http');
const { answer } = require('./answer.js');

http.createServer(answer).listen(Number(process.env.PORT), () => {
  console.error('the new version gives up');
  setTimeout(() => process.exit(3), 20);
});
