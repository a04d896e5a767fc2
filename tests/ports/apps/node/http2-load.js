// http2-load.js URL: twenty requests at a time on one HTTP/2 session after the other, until its input ends. Prints how many
// were answered, and how many were lost. A stream that crosses GOAWAY on its way was not processed: the client closes it with
// REFUSED_STREAM and asks again (RFC 9113, section 8.7).
'use strict';
const http2 = require('node:http2');
const [url] = process.argv.slice(2);

let session;
let [answered, lost] = [0, 0];
const connect = () => {
  const made = http2.connect(url, { rejectUnauthorized: false });
  const forget = () => session === made && (session = undefined);
  made.on('goaway', forget).on('close', forget).on('error', (error) => console.log('session', error.code));
  return made;
};
const ask = (path) =>
  new Promise((done) => {
    if (!session || session.closed || session.destroyed) session = connect();
    let [text, failure] = ['', 'no answer'];
    const stream = session.request({ ':path': path });
    stream.setEncoding('utf8').on('data', (part) => (text += part));
    stream.on('error', (error) => (failure = error.code));
    stream.on('close', () => {
      if (text.startsWith('pid ') && stream.rstCode === 0) return (answered += 1), done();
      if (stream.rstCode === http2.constants.NGHTTP2_REFUSED_STREAM) return done(ask(path));
      console.log('stream', failure, stream.rstCode);
      (lost += 1), done();
    });
  });

let isOver = false;
const loops = Array.from({ length: 20 }, async (_, at) => {
  while (!isOver) await ask(at === 0 ? '/slow' : '/');
});
process.stdin.resume().on('end', async () => {
  isOver = true;
  await Promise.all(loops);
  console.log(`answered ${answered} lost ${lost}`);
  process.exit(0);
});
