// rinit loads this script into its Node workers. While a worker serves, it changes one thing: a script that has nothing left
// to do ends, as it would without a channel. When rinit asks the worker to stop, the script lets no request be lost, and
// gives the app its stop signal while its servers are still open.
'use strict';

// This script is not for the processes that the app starts.
const own = `--require=${__filename}`;
process.execArgv = process.execArgv.filter((option) => option !== own);
const options = process.env.NODE_OPTIONS;
if (options && options.includes(own)) {
  const left = options.replace(own, '').trim();
  if (left) process.env.NODE_OPTIONS = left;
  else delete process.env.NODE_OPTIONS;
}

// The time in milliseconds that an HTTP/2 client has for its answers to PINGs before the session is closed without them.
const PING_TIMEOUT = 3000;
// The time in milliseconds between two checks for open connections.
const CHECK_INTERVAL = 20;
// The time in milliseconds for which the process stays alive after it has sent itself the stop signal: the handler runs in a
// later turn of the event loop.
const SIGNAL_TIME = 50;
// The signals by which process managers stop an app.
const STOP_SIGNALS = ['SIGTERM', 'SIGINT', 'SIGQUIT'];
// The time in milliseconds between two measurements of the event loop's delay, between two reports of it, and until the first.
const LAG_INTERVAL = 500;
const HEALTH_INTERVAL = 5000;
const FIRST_HEALTH = 1000;
// The stream id of a GOAWAY that refuses no stream (RFC 9113, 6.8), and that frame with the code NO_ERROR.
const SHUTDOWN_NOTICE = Buffer.from([0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);

const net = require('net');
const { channel } = process;

// The cluster module's servers, those that wait for rinit's answer, and their HTTP/2 sessions.
const servers = new Set();
const listening = new Map();
const sessions = new Set();
// The prototype of HTTP/2 streams, known when the first one is opened.
let Http2Stream;
// 'serving'; 'app stops': the app closes its servers itself; 'rinit stops': the cluster module does.
let state = 'serving';

if (channel && process.connected) {
  letTheScriptEnd();
  reportHealth();
  // Runs before the cluster module's own listener, and keeps a message from it by the change of `cmd`.
  process.prependListener('internalMessage', (message) => {
    if (message && message.rinit && !drain(message.rinit)) message.cmd = 'NODE_RINIT';
  });
}

// Node keeps a cluster worker alive by its channel alone. Here the channel counts only while a server waits for rinit's
// answer, or the app listens to messages, as in a process that child_process.fork() has made.
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
    const isStream = server instanceof net.Server;
    // rinit answers no server of a worker that stops. The app finds the server open all the same, if it closes it.
    if (state === 'app stops' && isStream) return process.nextTick(done, 0, standIn());
    if (state === 'rinit stops') return;
    if (isStream) watch(server);
    channel.refCounted();
    if (isStream) listening.set(server, done);
    // A server with a limit refuses connections, which are then another worker's.
    if (server.maxConnections) options.limited = true;
    return _getServer.call(this, server, options, (...answer) => {
      if (isStream && !listening.delete(server)) return;
      channel.unrefCounted();
      return done(...answer);
    });
  };
}

function watch(server) {
  if (servers.has(server)) return;
  servers.add(server);
  server.once('close', () => servers.delete(server));
  if (!/^Http2(Secure)?Server$/.test(server.constructor.name)) return;
  server.on('session', (session) => {
    sessions.add(session);
    session.once('close', () => sessions.delete(session));
  });
  server.once('stream', (stream) => (Http2Stream = Http2Stream || Object.getPrototypeOf(Object.getPrototypeOf(stream))));
}

// Measures how late timers run and for which share of the time the event loop was busy, and reports both with the heap and the
// open handles: what `rinit describe` and /metrics show, and by what an app is scaled.
function reportHealth() {
  const now = () => performance.now();
  let last = now();
  let due = last + FIRST_HEALTH;
  let lag = 0;
  let loop = performance.eventLoopUtilization();
  setInterval(() => {
    const time = now();
    lag = Math.max(lag, time - last - LAG_INTERVAL);
    last = time;
    if (time < due) return;
    due = time + HEALTH_INTERVAL;
    const { used_heap_size: heap } = require('v8').getHeapStatistics();
    const { utilization } = performance.eventLoopUtilization(loop);
    loop = performance.eventLoopUtilization();
    report({ act: 'health', lag: Math.round(lag), heap, handles: handles().length, busy: Math.round(1000 * utilization) });
    lag = 0;
  }, LAG_INTERVAL).unref();
}

const handles = () => process._getActiveHandles();
const connections = () => handles().filter((handle) => handle instanceof net.Socket && handle.server);

// Begins a graceful stop: `idle` is the time in milliseconds for which idle connections stay open, `signal` the stop signal,
// `after` its latest time. Without a signal the app closes its servers by itself. Returns true if the cluster module is to
// close them now.
function drain({ idle, signal, after }) {
  if (state !== 'serving') return false;
  const isHandled = signal && process.listenerCount(signal) > 0;
  state = signal && !isHandled ? 'rinit stops' : 'app stops';
  const latest = Date.now() + after;
  sendClientsAway(idle);
  const farewells = [...sessions].map(sayGoodbye);
  if (!signal) return false;
  if (isHandled) {
    stopAccepting();
    Promise.all(farewells).then(() => signalWhenIdle(signal, latest));
    return false;
  }
  const handled = STOP_SIGNALS.find((other) => other !== signal && process.listenerCount(other) > 0);
  if (handled) report({ act: 'unhandled', signal, handled });
  closeOwnServers();
  if (farewells.length === 0) return true;
  // The cluster module closes HTTP/2 sessions with its servers.
  Promise.all(farewells).then(() => process.emit('internalMessage', { cmd: 'NODE_CLUSTER', act: 'disconnect' }));
  return false;
}

function report(message) {
  if (process.connected) process._send({ cmd: 'NODE_RINIT', ...message }, undefined, { swallowErrors: true });
}

// Puts stand-ins in the place of listening handles: the servers stay open for the app, which closes them, but accept no
// more connections.
function stopAccepting() {
  const open = handles().filter((handle) => handle instanceof net.Server);
  for (const server of new Set([...servers, ...open])) {
    const handle = server._handle;
    // Where rinit sends connections by messages, it has stopped, and there is no handle of Node's own.
    if (!handle || Object.getPrototypeOf(handle) === Object.prototype) continue;
    const address = {};
    if (handle.getsockname) handle.getsockname(address);
    server._handle = standIn(address, !server._unref);
    handle.close();
  }
  for (const [server, done] of listening) {
    listening.delete(server);
    channel.unrefCounted();
    done(0, standIn());
  }
}

// A handle that keeps the process alive like one that listens.
function standIn(address, isRef = true) {
  const timer = setInterval(() => {}, 2 ** 31 - 1);
  if (!isRef) timer.unref();
  const handle = {
    listen: () => 0,
    ref: () => timer.ref(),
    unref: () => timer.unref(),
    hasRef: () => timer.hasRef(),
    close(done) {
      clearInterval(timer);
      if (typeof done === 'function') setImmediate(done);
    },
  };
  if (address) handle.getsockname = (out) => (Object.assign(out, address), 0);
  return handle;
}

// Sends the stop signal to this process when no connection is open, at the latest at that time.
function signalWhenIdle(signal, latest) {
  const timer = setInterval(check, CHECK_INTERVAL);
  check();
  function check() {
    if (connections().length > 0 && Date.now() < latest) return;
    clearInterval(timer);
    report({ act: 'signalled' });
    process.kill(process.pid, signal);
    setTimeout(() => {}, SIGNAL_TIME);
  }
}

// Closes the servers that the worker opened without the cluster module. The channel closes after them.
function closeOwnServers() {
  const own = handles().filter((handle) => handle instanceof net.Server && handle.listening && !servers.has(handle));
  const { disconnect } = process;
  let open = own.length;
  let isDisconnecting = false;
  const disconnectIfClosed = () => {
    if (open === 0 && isDisconnecting) disconnect.call(process);
  };
  process.disconnect = () => {
    isDisconnecting = true;
    disconnectIfClosed();
  };
  for (const server of own) {
    server.close(() => {
      open -= 1;
      disconnectIfClosed();
    });
  }
}

// Headers as writeHead() takes them: an object, a list of alternating names and values, or a list of pairs.
function withConnectionClose(headers) {
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

// Tells keep-alive clients to close their connections, and closes those on which no request has come for `idle` milliseconds.
function sendClientsAway(idle) {
  const http = require('http');
  const https = require('https');
  const idleUntil = Date.now() + idle;

  // Every response from now on tells its client to send no other request on that connection, whatever the app says; unless
  // the client has sent one already (pipelining): then that one's response does.
  const isLast = ({ req, headersSent }) => {
    const parser = req && req.socket && req.socket.parser;
    return !headersSent && (!parser || !parser.incoming || parser.incoming === req);
  };
  for (const { _httpMessage: response } of connections()) {
    if (response && isLast(response)) response.shouldKeepAlive = false;
  }
  const { writeHead } = http.ServerResponse.prototype;
  http.ServerResponse.prototype.writeHead = function (status, ...rest) {
    if (status !== 101 && isLast(this)) {
      this.shouldKeepAlive = false;
      if (this.hasHeader('connection')) this.setHeader('Connection', 'close');
      rest.push(withConnectionClose(rest.pop()));
    }
    return writeHead.call(this, status, ...rest);
  };

  // close() would cut idle connections at once, and with them requests that are on their way.
  const { closeIdleConnections } = http.Server.prototype;
  for (const { prototype } of [http.Server, https.Server]) {
    const close = prototype.closeIdleConnections;
    if (!close) continue;
    prototype.closeIdleConnections = function () {
      const left = idleUntil - Date.now();
      if (left > 0) setTimeout(() => close.call(this), left).unref();
      else close.call(this);
    };
  }
  setTimeout(() => {
    const open = connections().filter(({ server }) => server instanceof http.Server || server instanceof https.Server);
    // Node counts a connection that never sent a request as busy.
    for (const socket of open) if (!socket._httpMessage && socket.bytesRead === 0) socket.destroy();
    for (const server of new Set(open.map((socket) => socket.server))) {
      if (closeIdleConnections) closeIdleConnections.call(server);
    }
  }, idle).unref();

  const { emit } = net.Server.prototype;
  net.Server.prototype.emit = function (event, subject, ...rest) {
    if (event === 'session') sayGoodbye(subject);
    if (event === 'stream' && subject && subject.session) sayGoodbye(subject.session);
    return emit.call(this, event, subject, ...rest);
  };
}

const dismissed = new WeakSet();
// The writes of HTTP/2 streams that wait for their client's answer to a PING, by session.
const held = new Map();

// Closes an HTTP/2 session without a stream being refused. Its responses are held back until the client has answered two
// PINGs: a client may answer the first before it sends the requests that the last responses led to, but has sent them when
// it answers the second, and then no response makes it send another. So the GOAWAY that follows crosses no request on its
// way. Over plain TCP a GOAWAY that refuses no stream comes first, and the real one after another PING. Node has no call for
// that frame (its goaway() refuses new streams whatever id is given), and a frame from here cannot be written into a TLS
// connection, which Node may be writing to. Returns when the session's GOAWAY is sent.
async function sayGoodbye(session) {
  if (!session || session.closed || session.destroyed || dismissed.has(session)) return;
  dismissed.add(session);
  holdWrites();
  held.set(session, []);
  const deadline = Date.now() + PING_TIMEOUT;
  await ping(session, deadline);
  await ping(session, deadline);
  if (sendShutdownNotice(session)) {
    release(session);
    await ping(session, deadline);
  }
  if (!session.destroyed) session.close();
  release(session);
}

function ping(session, deadline) {
  return new Promise((done) => {
    const timer = setTimeout(done, deadline - Date.now());
    const answered = () => (clearTimeout(timer), done());
    try {
      if (!session.ping(answered)) done();
    } catch {
      answered();
    }
  });
}

function sendShutdownNotice(session) {
  try {
    const { _handle: handle, encrypted } = session.socket;
    const socket = !encrypted && handle && connections().find(({ _handle }) => _handle === handle);
    if (!socket) return false;
    net.Socket.prototype.write.call(socket, SHUTDOWN_NOTICE);
    return true;
  } catch {
    return false;
  }
}

function release(session) {
  const writes = held.get(session) || [];
  held.delete(session);
  for (const write of writes) write();
}

let holdsWrites = false;

function holdWrites() {
  if (!Http2Stream || holdsWrites) return;
  holdsWrites = true;
  for (const name of ['_write', '_writev', '_final']) {
    const original = Http2Stream[name];
    Http2Stream[name] = function (...args) {
      const waiting = held.get(this.session);
      if (waiting) waiting.push(() => original.apply(this, args));
      else original.apply(this, args);
    };
  }
}
