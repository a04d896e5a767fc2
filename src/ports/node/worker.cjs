// rinit loads this into its Node workers. While a worker serves, it changes one thing: a script that has nothing left to do
// ends, as it would without a channel. When rinit asks the worker to finish, it sees to it that no request is lost.
'use strict';

// Nobody else's: not of the processes that the app starts.
const options = process.env.NODE_OPTIONS || '';
const left = options.replace(`--require=${__filename}`, '').trim();
if (left) process.env.NODE_OPTIONS = left;
else delete process.env.NODE_OPTIONS;

const { channel } = process;
if (channel && process.connected) {
  letTheScriptEnd();
  // Before the cluster module's own listener.
  process.prependListener('internalMessage', (message) => {
    if (message && message.rinit) finish(message.rinit);
  });
}

// Node keeps a cluster worker alive by its channel alone. Here the channel counts only while a server waits for rinit's
// answer, or the app listens to messages, as in a process that child_process.fork() made.
function letTheScriptEnd() {
  const cluster = require('cluster');
  const { _getServer } = cluster;
  // Under `node -e` there is no worker yet.
  if (!cluster.worker || typeof _getServer !== 'function' || typeof channel.unrefCounted !== 'function') return;
  // Node counts listeners; those that are there so far are its own.
  let own = process.listenerCount('message') + process.listenerCount('disconnect');
  while (own-- > 0) channel.unrefCounted();
  cluster.worker.on('newListener', (name) => name === 'message' && channel.refCounted());
  cluster.worker.on('removeListener', (name) => name === 'message' && channel.unrefCounted());
  cluster._getServer = function (server, options, done) {
    channel.refCounted();
    // It refuses connections, which are then another worker's.
    if (server.maxConnections) options.limited = true;
    return _getServer.call(this, server, options, (...answer) => {
      channel.unrefCounted();
      return done(...answer);
    });
  };
}

// Headers as writeHead() takes them: an object, a list of names and values by turns, or one of pairs.
function closing(headers) {
  if (!headers || typeof headers !== 'object') return headers;
  const is = (name) => typeof name === 'string' && name.toLowerCase() === 'connection';
  if (!Array.isArray(headers)) {
    return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, is(name) ? 'close' : value]));
  }
  return headers.map((item, at) => {
    if (Array.isArray(item)) return is(item[0]) ? [item[0], 'close'] : item;
    return at % 2 === 1 && is(headers[at - 1]) ? 'close' : item;
  });
}

let finishing = false;

// `idle`: milliseconds that connections without a request are left open; `signal`: sent to itself after `after`
// milliseconds, if the app handles it.
function finish({ idle, signal, after }) {
  if (finishing) return;
  finishing = true;
  const http = require('http');
  const https = require('https');
  const net = require('net');
  const handles = () => process._getActiveHandles();
  const sockets = () => handles().filter((handle) => handle instanceof net.Socket && handle.server);

  // Every answer from now on tells its client not to send another request on that connection, whatever the app says of it;
  // unless the client has sent one already (pipelining), whose answer will.
  const isLast = ({ req, headersSent }) => {
    const parser = req && req.socket && req.socket.parser;
    return !headersSent && (!parser || !parser.incoming || parser.incoming === req);
  };
  for (const { _httpMessage: response } of sockets()) {
    if (response && isLast(response)) response.shouldKeepAlive = false;
  }
  const { writeHead } = http.ServerResponse.prototype;
  http.ServerResponse.prototype.writeHead = function (status, ...rest) {
    if (status !== 101 && isLast(this)) {
      this.shouldKeepAlive = false;
      if (this.hasHeader('connection')) this.setHeader('Connection', 'close');
      rest.push(closing(rest.pop()));
    }
    return writeHead.call(this, status, ...rest);
  };
  const { emit } = net.Server.prototype;
  net.Server.prototype.emit = function (event, stream, ...rest) {
    // HTTP/2: GOAWAY, and the streams of the session go on to their end.
    if (event === 'stream' && stream && stream.session) stream.session.close();
    return emit.call(this, event, stream, ...rest);
  };

  // close() cuts idle connections at once, and with them requests that are on their way.
  for (const { prototype } of [http.Server, https.Server]) {
    const { closeIdleConnections } = prototype;
    if (!closeIdleConnections) continue;
    prototype.closeIdleConnections = function () {
      setTimeout(() => closeIdleConnections.call(this), idle).unref();
    };
  }
  // A connection that never sent a request would hold its server open for ever.
  setTimeout(() => {
    for (const socket of sockets()) {
      if (socket.server instanceof http.Server && !socket._httpMessage && socket.bytesRead === 0) socket.destroy();
    }
  }, idle).unref();

  // Servers that the worker opened past the cluster module: the channel closes behind them.
  if (signal) {
    const own = handles().filter((handle) => handle instanceof net.Server && handle.listening);
    const { disconnect } = process;
    let open = own.length;
    let asked = false;
    const close = () => {
      if (open === 0 && asked) disconnect.call(process);
    };
    process.disconnect = () => {
      asked = true;
      close();
    };
    for (const server of own) {
      server.close(() => {
        open -= 1;
        close();
      });
    }
    if (process.listenerCount(signal) > 0) setTimeout(() => process.kill(process.pid, signal), after).unref();
  }
}
