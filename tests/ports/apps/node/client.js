// client.js KIND PORT COUNT: asks, on one connection after the other, until COUNT processes have answered. Prints them.
'use strict';
const [kind, port, count] = process.argv.slice(2);

const ask = {
  https(take, fail) {
    const options = { host: '127.0.0.1', port, rejectUnauthorized: false, agent: false };
    require('node:https').get(options, (response) => gather(response, take, fail)).on('error', fail);
  },
  http2(take, fail) {
    const session = require('node:http2').connect(`https://127.0.0.1:${port}`, { rejectUnauthorized: false });
    session.on('error', fail);
    gather(session.request({ ':path': '/' }), (text) => session.close(() => take(text)), fail);
  },
  ws(take, fail) {
    const { WebSocket } = require('ws');
    const socket = new WebSocket(`ws://127.0.0.1:${port}`);
    socket.on('error', fail).on('open', () => socket.send('who are you?'));
    socket.on('message', (data) => {
      socket.close();
      take(String(data));
    });
  },
}[kind];

function gather(stream, take, fail) {
  let text = '';
  stream.setEncoding('utf8').on('error', fail).on('data', (part) => (text += part)).on('end', () => take(text));
}

const seen = new Set();
const fail = (error) => {
  console.log('failed', error);
  process.exit(1);
};
const next = () =>
  ask((text) => {
    const pid = /pid (\d+)/.exec(text);
    if (!pid) return fail(new Error(`not an answer: ${text}`));
    seen.add(pid[1]);
    if (seen.size < Number(count)) return next();
    console.log('all have answered', ...seen);
    process.exit(0);
  }, fail);
next();
