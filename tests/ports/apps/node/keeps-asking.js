// Asks if its port is free, over and over, until the worker that serves there is gone. That one takes its time between the
// message that it closes its server and the end of its socket.
const fs = require('fs');
const net = require('net');
const port = Number(process.env.PORT);
const flag = process.env.FLAG;

const listens = (host) => new Promise((done) => {
  const server = net.createServer().on('error', (error) => done(error.code));
  server.listen({ port, host }, () => server.close(() => done('free')));
});
const isThere = (pid) => fs.existsSync(`/proc/${pid}`);

async function ask(other) {
  while (isThere(other)) {
    for (const host of ['0.0.0.0', '127.0.0.1']) {
      const answer = await listens(host);
      if (answer !== 'free') console.log(`not free: ${host}: ${answer}`);
    }
  }
  console.log('asked');
}

function closeLate() {
  const { _send } = process;
  process._send = function (message, ...rest) {
    const sent = _send.call(this, message, ...rest);
    if (message && message.act === 'close') {
      console.log('closes late');
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
    }
    return sent;
  };
}

(async () => {
  if (fs.existsSync(flag)) await ask(fs.readFileSync(flag, 'utf8'));
  else closeLate();
  require('http').createServer((request, answer) => answer.end(`pid ${process.pid}\n`)).listen(port, () => {
    fs.writeFileSync(flag, String(process.pid));
    console.log('serves');
  });
})();
