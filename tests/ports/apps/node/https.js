'use strict';
const fs = require('node:fs');
const path = require('node:path');
const https = require('node:https');
const { answer } = require('./answer.js');

const pem = fs.readFileSync(path.join(__dirname, 'test-certificate.pem'));
https.createServer({ key: pem, cert: pem }, answer).listen(Number(process.env.PORT));
