'use strict';
const dgram = require('node:dgram');
const { me } = require('./answer.js');

const socket = dgram.createSocket('udp4');
socket.on('message', (_, from) => socket.send(me, from.port, from.address));
socket.bind(Number(process.env.PORT), '127.0.0.1');
