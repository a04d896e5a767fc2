'use strict';
const express = require('express');
const { me } = require('./answer.js');

const app = express();
app.get('/', (_, response) => response.type('text').send(me));
app.get('/slow', (_, response) => {
  setTimeout(() => response.type('text').send(me), 300);
});
app.listen(Number(process.env.PORT));
