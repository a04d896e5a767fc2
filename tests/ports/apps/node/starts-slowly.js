// Listens some seconds after its start.
const { answer } = require('./answer.js');
setTimeout(() => require('http').createServer(answer).listen(process.env.PORT), 5000);
