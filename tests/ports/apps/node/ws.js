'use strict';
const { WebSocketServer } = require('ws');
const { me } = require('./answer.js');

const server = new WebSocketServer({ port: Number(process.env.PORT) });
server.on('connection', (socket) => socket.on('message', () => socket.send(me)));
