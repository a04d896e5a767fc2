// Forks its own workers, with the check that the documentation shows.
'use strict';
const cluster = require('node:cluster');
const http = require('node:http');
const { answer } = require('./answer.js');

if (cluster.isPrimary ?? cluster.isMaster) {
  console.log('is the primary');
  cluster.fork();
  cluster.fork();
} else {
  http.createServer(answer).listen(Number(process.env.PORT));
}
