// Prepares the answers of a rinit with three apps, in the shapes of openapi.json (a test compares them), for the browser.

const HOUR = 3600_000, START = Date.parse("2026-08-01T08:50:00Z");
export const NOW = START + 3 * HOUR + 12 * 60_000;
const POINTS = 120;
const time = ago => new Date(NOW - ago).toISOString();

const exit = (cause, ago, asked = false) => ({ time: time(ago), pid: 9, code: 3, signal: null, oom_killed: false, cause, lived_ms: 612, asked });

function worker(app, slot, state, other = {}) {
  const runs = !["stopped", "failed", "backoff"].includes(state);
  return {
    id: `${app}-${slot}`, app, slot, role: "worker", state, pid: runs ? 20 + slot : null, generation: 2, started: runs ? time(11_520_000 - slot * 3000) : null, uptime_ms: runs ? 11_520_000 - slot * 3000 : null,
    restarts: 0, cpu_percent: runs ? 8.3 + slot * 3.9 : null, memory_bytes: runs ? 47_500_000 + slot * 4_000_000 : null,
    ready_by: state === "ready" ? "listen" : null, status: null, listens: app === "web" ? ["port 8080"] : [],
    node: null, connections: null, open_connections: null, retry_in_ms: state === "backoff" ? 3_400 : null, is_crash_looping: false, last_exit: null, ...other,
  };
}

const served = slot => ({ connections: 37_200 + slot * 211, open_connections: 41 + slot * 3, node: { event_loop_lag_ms: 1 + slot, heap_used_bytes: 23_000_000, active_handles: 12 } });

function app(id, name, command, workers, condition, other = {}) {
  const wanted = workers.filter(one => one.role === "worker" && one.state !== "stopped"), ready = wanted.filter(one => one.state === "ready").length;
  return {
    id, name, kind: "service", command, instances: wanted.length, wanted: wanted.length, ready, missing: wanted.length - ready, condition, is_over: false, generation: 2, reload: null,
    last_reload: { generation: 2, result: "done", took_ms: 2_190, time: time(HOUR), why: null }, listens: name === "web" ? ["port 8080"] : [], ...other,
  };
}

const web = [0, 1, 2, 3].map(slot => worker("web", slot, "ready", { generation: slot < 2 ? 3 : 2, ...served(slot), ...slot < 2 ? { uptime_ms: 9000 - slot * 4000 } : {} }));
web.splice(3, 0, worker("web", 2, "starting", { role: "replacement", generation: 3, uptime_ms: 1_200, pid: 61, memory_bytes: 21_000_000, cpu_percent: 64.2 }));
const queue = [
  worker("queue", 0, "ready"),
  worker("queue", 1, "backoff", { restarts: 7, is_crash_looping: true, last_exit: exit("exit code 3", 3_000) }),
  worker("queue", 2, "stopped", { last_exit: exit("SIGTERM", 60_000, true) }),
  worker("queue", 3, "failed", { restarts: 16, last_exit: exit("SIGKILL by the out-of-memory killer", 90_000) }),
];
const mail = [worker("mail", 0, "ready"), worker("mail", 1, "backoff", { restarts: 1, last_exit: exit("exit code 1", 2_000) })];
const long = ["node", "--max-old-space-size=256", "--require", "./tracing.js", "dist/server/index.js", "--config=/etc/app/production.json", "--features=search,checkout,recommendations,experiments", "--log-level=info"];

const status = {
  version: "0.2.0", pid: 1, state: "running", started: new Date(START).toISOString(), uptime_ms: NOW - START,
  apps: [
    app(0, "web", long, web, "ready", { reload: { generation: 3, since_ms: 11_000 } }),
    app(1, "queue", ["python", "worker.py"], queue, "crash-looping",
      { last_reload: { generation: 2, result: "failed", took_ms: 900, time: time(120_000), why: "queue: reload to generation 2 stopped: the new queue-0 ended with exit code 3" } }),
    app(2, "mail", ["./mailer"], mail, "degraded"),
  ],
  workers: [...web, ...queue, ...mail],
};

function series(name, workers) {
  const sum = key => workers.reduce((sum, one) => sum + (one[key] ?? 0), 0);
  const each = value => [...Array(POINTS).keys()].map(value), isNode = workers.some(one => one.node);
  const load = at => .75 + .25 * Math.sin(at / 9 + workers.length) + ((at * 7919) % 13) / 60;
  return {
    name, cpu_percent: each(at => Math.round(sum("cpu_percent") * load(at) * 10) / 10),
    memory_bytes: each(at => Math.round(sum("memory_bytes") * (.8 + at / POINTS / 5 + ((at * 31) % 7) / 200))),
    restarts: each(at => name.startsWith("queue") && at > POINTS - 14 && at % 3 === 0 ? 1 : 0),
    connections: isNode ? each(at => Math.round(workers.length * 320 * load(at))) : [],
    event_loop_lag_ms: isNode ? each(at => Math.round(1 + ((at * 17) % 9) / 3 + (at === 70 ? 42 : 0))) : [],
  };
}

const slots = [...new Set(status.workers.map(one => one.id))].map(id => status.workers.filter(one => one.id === id && one.role === "worker"));
const history = {
  time: time(4_000), interval_ms: HOUR / POINTS,
  apps: status.apps.map(one => series(one.name, status.workers.filter(row => row.app === one.name))),
  workers: slots.map(rows => series(rows[0].id, rows)),
};

const LINES = [
  ["web-0", "stdout", "GET /api/items/42 200 11ms"], ["web-1", "stdout", '{"level":30,"time":1785585120000,"msg":"request completed","req":{"method":"GET","url":"/api/items"},"responseTime":12}'],
  ["mail-1", "stderr", "WARN the outbox is full: 212 of 300"], ["web-3", "stdout", "GET /about 200 4ms"],
  ["queue-0", "stdout", '{"level":"error","msg":"connection refused","host":"db-1","attempt":3}'], ["queue-1", "stderr", "Error: no database at db-1:5432"],
  ["web-2", "stdout", "INFO  listening on port 8080"], ["mail-0", "stdout", "DEBUG resolving smtp.example"],
];
const EVENTS = [
  ["info", "web-1 (pid 21) is ready after 312ms (it listens)"], ["warn", "queue-1 (pid 9) ended with exit code 3 after 612ms; started again in 3.4s"],
  ["error", "queue: reload to generation 2 stopped: the new queue-0 ended with exit code 3"], ["info", "web: reload to generation 3"],
  ["info", "web-0 (pid 20) is ready after 298ms (it listens)"], ["debug", "mail-0: its variables are as before"],
];
const sse = (kind, items) => items.map(item => `event: ${kind}\ndata: ${JSON.stringify(item)}\n\n`).join("");
const lines = [...Array(40).keys()].map(at => [at, ...LINES[at % LINES.length]]).map(([at, worker, stream, line]) =>
  ({ seq: Math.floor(at / LINES.length), time: time(60_000 - at * 1500), worker, stream, line }));
const events = [...Array(20).keys()].flatMap(() => EVENTS).map(([level, message], seq) => ({ seq, time: time(1_000_000 - seq * 8000), kind: "started", app: null, worker: null, pid: null, level, message }));

/** The bodies by path. */
export const answers = () => ({
  "/v1/access": JSON.stringify({ permission: "change", tokens: [] }), "/v1/status": JSON.stringify(status), "/v1/history": JSON.stringify(history),
  "/v1/logs": sse("line", lines), "/v1/events": sse("started", events),
});
