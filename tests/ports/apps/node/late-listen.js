// Listens when it is asked to.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { answer } = require('./answer.js');

console.log('is up');
const timer = setInterval(() => {
  if (!fs.existsSync(process.env.GATE)) return;
  clearInterval(timer);
  http.createServer(answer).listen(Number(process.env.PORT));
}, 10);
