// http2-idle.js URL: opens an HTTP/2 session, sends one request, and then waits. Prints `idle`, and `closed` with the time
// in milliseconds from the GOAWAY to the end of the session.
'use strict';
const session = require('node:http2').connect(process.argv[2]);
let goaway = 0;
session.on('goaway', () => (goaway = goaway || Date.now()));
session.on('close', () => console.log('closed', goaway ? Date.now() - goaway : 'without GOAWAY'));
session.request({ ':path': '/' }).resume().on('end', () => console.log('idle'));
