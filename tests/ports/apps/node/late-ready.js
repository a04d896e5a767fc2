// Listens, and says 'ready' when it is asked to.
'use strict';
const fs = require('node:fs');
const http = require('node:http');
const { answer } = require('./answer.js');

http.createServer(answer).listen(Number(process.env.PORT), () => console.log('listens'));
const timer = setInterval(() => {
  if (!fs.existsSync(process.env.GATE)) return;
  clearInterval(timer);
  process.send('ready');
}, 10);
