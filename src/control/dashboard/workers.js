
// ---- Apps, their slots and their workers

const TONES = { ready: "good", starting: "busy", draining: "busy", backoff: "warn", failed: "bad", stopped: "soft", waiting: "soft" };
/** Conditions of apps: tone and words. */
const CONDITIONS = {
  ready: ["good", "Ready"], starting: ["busy", "Starting"], degraded: ["warn", "Degraded"], down: ["bad", "Down"],
  "crash-looping": ["bad", "Crash-looping"], waiting: ["soft", "Waiting"], idle: ["soft", "No worker wanted"],
};
const apps = new Map();

/** The rows of each slot: its worker, and during a reload the replacement. */
function slotsOf(workers) {
  const slots = new Map();
  for (const worker of workers) slots.set(worker.id, [...slots.get(worker.id) ?? [], worker]);
  return [...slots.values()];
}

const isReplaced = (rows, reload) => rows.some(row => row.state === "ready" && row.role === "worker" && row.generation >= reload.generation);

/** A slot as one square: its state, and in a reload whether it has a new worker. */
function showSlot(square, rows, app) {
  const [first] = rows, next = rows.find(row => row.role === "replacement"), old = rows.find(row => row.role === "replaced");
  const own = rows.find(row => row.role === "worker") ?? first;
  const words = [own.is_crash_looping ? "crash-looping, " + own.state : own.state];
  if (own.retry_in_ms != null) words.push(`next start in ${duration(own.retry_in_ms)}`);
  if (next) words.push(`replacement ${next.state}`);
  if (old) words.push(`old worker ${old.state}`);
  const tone = own.is_crash_looping ? "bad" : TONES[own.state] ?? "soft";
  putClass(square.node, `slot ${tone}` + (next ? " replacing" : app.reload && isReplaced(rows, app.reload) ? " replaced" : ""));
  put(square.mark, own.is_crash_looping || own.state === "failed" ? "!" : own.slot);
  put(square.words, `${own.id}: ${words.join(", ")}`);
  putTitle(square.node, square.words.textContent);
}

function slotSquare() {
  const mark = make("span", { "aria-hidden": "true" }), words = make("span", { class: "visually-hidden" });
  const node = make("li", {}, mark, words);
  return { nodes: [node], node, mark, words };
}

function appSection(name) {
  const of = { slots: new Map(), rows: new Map(), optional: new Map() };
  of.name = make("h2", {}, name);
  of.condition = make("p");
  of.ready = make("p", { class: "ready" });
  of.facts = make("p", { class: "soft" });
  of.reload = make("p", { class: "reload" });
  of.why = make("p", { class: "bad" });
  of.words = make("code");
  of.command = make("details", { class: "command" }, make("summary", { "aria-label": "Command" }, of.words));
  of.fewer = button("−", `One worker fewer of ${name}`, node => change(node, "POST", "v1/scale", { app: name, to: "-1" }));
  of.more = button("+", `One worker more of ${name}`, node => change(node, "POST", "v1/scale", { app: name, to: "+1" }));
  const reload = button("Reload", `Reload ${name}`, node => change(node, "POST", `v1/workers/${encodeURIComponent(name)}/reload`));
  reload.classList.add("main");
  of.buttons = make("div", { class: "buttons" }, of.fewer, of.more, reload);
  of.squares = make("ol", { class: "slots", "aria-label": `Slots of ${name}` });
  of.graphs = graphRow("apps", name);
  of.columns = make("tr", { role: "row" });
  of.body = make("tbody", { role: "rowgroup" });
  for (const column of COLUMNS) {
    const cell = make("th", { role: "columnheader", scope: "col", class: column.css ?? "" }, column.text);
    if (column.label) cell.setAttribute("aria-label", column.label);
    of.columns.append(cell);
    if (column.isShown) of.optional.set(column, cell);
  }
  of.none = make("p", { class: "empty" }, "No workers.");
  const table = make("table", { role: "table", "aria-label": `Workers of ${name}` }, make("thead", { role: "rowgroup" }, of.columns), of.body);
  const section = make("section", { class: "card app", "aria-label": `App ${name}` },
    make("div", { class: "head" }, of.name, of.condition, of.ready, of.facts, of.buttons),
    make("div", { class: "state-line" }, of.squares, of.reload), of.why, of.command, of.graphs.row,
    make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table of workers of ${name}` }, table), of.none);
  return { nodes: [section], ...of };
}

/** The progress of a reload, or its last result. */
function reloadWords(app, slots) {
  const last = app.last_reload;
  if (app.reload) {
    const done = slots.filter(rows => isReplaced(rows, app.reload)).length;
    const next = slots.flat().find(row => row.role === "replacement");
    const now = next ? `, the new ${next.id} is ${next.state} for ${duration(next.uptime_ms)}` : "";
    return ["busy", `Reloading to generation ${app.reload.generation}: ${done} of ${slots.length} replaced${now}`];
  }
  if (last?.result === "failed") return ["bad", `Reload to generation ${last.generation} failed at ${clock(last.time)}`];
  return ["soft", `Generation ${app.generation}` + (last ? `, reloaded at ${clock(last.time)} in ${duration(last.took_ms)}` : "")];
}

/** The sum of a number that workers have; undefined where none has it. */
const sumOf = (workers, value) => workers.map(value).reduce((sum, one) => one == null ? sum : (sum ?? 0) + one, undefined);

/** The present values of a worker, or of several, by measure. */
function presentOf(workers) {
  const lags = workers.map(worker => worker.node?.event_loop_lag_ms).filter(lag => lag != null);
  return {
    cpu_percent: sumOf(workers, worker => worker.cpu_percent), memory_bytes: sumOf(workers, worker => worker.memory_bytes),
    event_loop_lag_ms: lags.length ? Math.max(...lags) : undefined,
  };
}

function showApp(of, app, all, now) {
  const workers = all.filter(worker => worker.app === app.name), slots = slotsOf(workers);
  const [tone, words] = CONDITIONS[app.condition] ?? ["soft", app.condition];
  put(of.condition, app.kind === "task" && app.condition === "ready" ? "Done" : words);
  putClass(of.condition, "pill " + tone);
  put(of.ready, `${app.ready}/${app.wanted} ${app.kind === "task" ? "done" : "ready"}`);
  put(of.facts, app.listens.length ? "on " + app.listens.join(", ") : "");
  const [how, text] = reloadWords(app, slots);
  put(of.reload, text);
  putClass(of.reload, "reload " + how);
  put(of.why, !app.reload && app.last_reload?.why || "");
  of.command.hidden = !app.command.length;
  put(of.words, app.command.join(" "));
  of.buttons.hidden = !canChange();
  if (!of.fewer.hasAttribute("aria-busy")) enable(of.fewer, app.instances > 1);
  reconcile(of.slots, of.squares, slots, ([first]) => first.id, slotSquare, (square, rows) => showSlot(square, rows, app));
  of.graphs.update(presentOf(workers), now);
  const shown = column => !column.isShown || column.isShown(workers);
  for (const [column, cell] of of.optional) cell.hidden = !shown(column);
  reconcile(of.rows, of.body, workers, worker => worker.id + ":" + worker.role, workerRow, (row, worker) => {
    showWorker(row, worker, now);
    for (const column of of.optional.keys()) row.cells.get(column).hidden = !shown(column);
  });
  of.none.hidden = workers.length > 0;
}

// ---- The table: a column is a heading and a function that fills a cell

const text = words => (cell, worker, now) => put(cell, words(worker, now));
const ago = (time, now) => duration(now - Date.parse(time)) + " ago";

function spark(measure) {
  const value = worker => worker[measure.key];
  return {
    make: cell => {
      const svg = plot(measure, "spark"), number = make("span");
      cell.append(make("span", { class: "with-spark" }, svg, number));
      return { svg, number };
    },
    show: (cell, worker, now, { svg, number }) => {
      put(number, measure.words(value(worker)));
      const points = worker.role === "worker" ? pointsOf("workers", worker.id, measure, value(worker), now) : [];
      trace(svg, points, measure, roundTop(tops[measure.key] ?? 0, measure), now);
    },
  };
}

/** The greatest value of each measure in the last hour: all small graphs have one scale, so that they compare. */
let tops = {};

function findTops() {
  const most = key => Math.max(0, ...past.workers.flatMap(one => one[key].map(value => value ?? 0)), ...status.workers.map(worker => worker[key] ?? 0));
  tops = { cpu_percent: most("cpu_percent"), memory_bytes: most("memory_bytes") };
}

const COLUMNS = [
  { text: "Worker", css: "of-worker", ...workerCell() },
  { text: "State", css: "of-state", ...stateCell() },
  { text: "Up", css: "num of-up", show: text(worker => duration(worker.uptime_ms)) },
  { text: "Restarts", css: "num of-restarts", show: text((worker, now) => worker.restarts && worker.last_exit && !worker.last_exit.asked
    ? `${worker.restarts} (${ago(worker.last_exit.time, now)})` : worker.restarts) },
  { text: "CPU", css: "num of-cpu", ...spark(MEASURES[0]) },
  { text: "Memory", css: "num of-memory", ...spark(MEASURES[1]) },
  { text: "Conns", css: "num of-connections", show: text(worker => worker.open_connections ?? "–"), isShown: rows => rows.some(row => row.open_connections != null) },
  { text: "Lag", css: "num of-lag", show: text(worker => MEASURES[3].words(worker.node?.event_loop_lag_ms)), isShown: rows => rows.some(row => row.node?.event_loop_lag_ms != null) },
  { text: "Gen", css: "num of-generation", show: text(worker => worker.generation) },
  { text: "PID", css: "num of-pid", show: text(worker => worker.pid ?? "–") },
  { text: "Last exit", css: "of-exit", show: (cell, worker, now) => {
    put(cell, worker.last_exit ? `${worker.last_exit.cause}, ${ago(worker.last_exit.time, now)}` : "–");
    putTitle(cell, cell.textContent);
  } },
  { text: "", label: "Actions", css: "of-actions", ...actionCell(), isShown: canChange },
];

function workerCell() {
  return {
    make: (cell, worker, row) => {
      const open = make("button", { type: "button", class: "plain", "aria-expanded": "false" }, worker.id);
      open.addEventListener("click", () => toggleDetails(row, open));
      const role = make("span", { class: "soft" });
      cell.append(open, role);
      return { open, role };
    },
    show: (cell, worker, now, { role }) => put(role, { replacement: " new", replaced: " old" }[worker.role] ?? ""),
  };
}

function stateCell() {
  return {
    make: cell => cell.appendChild(make("span")),
    show: (cell, worker, now, word) => {
      const wait = worker.retry_in_ms == null ? "" : ` ${duration(worker.retry_in_ms)}`;
      put(word, (worker.is_crash_looping ? "crash-looping" : worker.state) + wait);
      putClass(word, "state " + (worker.is_crash_looping ? "bad" : TONES[worker.state] ?? "soft"));
    },
  };
}

function actionCell() {
  return {
    make: (cell, { id }) => {
      const to = verb => node => change(node, "POST", `v1/workers/${encodeURIComponent(id)}/${verb}`);
      const restart = button("Restart", "Restart " + id, to("restart")), start = button("Start", "Start " + id, to("start"));
      const stop = button("Stop", "Stop " + id, async node => {
        if (await confirmed(`Stop ${id}? It stays stopped until it is started again.`, "Stop it")) to("stop")(node);
      });
      const buttons = cell.appendChild(make("div", { class: "buttons" }, restart, stop, start));
      return { buttons, restart, stop, start };
    },
    show: (cell, worker, now, { buttons, restart, stop, start }) => {
      const isDown = worker.state === "stopped" || worker.state === "failed";
      buttons.hidden = worker.role !== "worker";
      restart.hidden = stop.hidden = isDown;
      start.hidden = !isDown;
    },
  };
}

function workerRow(worker) {
  const line = make("tr", { role: "row" }), row = { nodes: [line], line, cells: new Map(), parts: new Map(), id: worker.id, details: null };
  for (const column of COLUMNS) {
    const cell = line.appendChild(make("td", { role: "cell", class: column.css ?? "", "data-label": column.text }));
    row.cells.set(column, cell);
    if (column.make) row.parts.set(column, column.make(cell, worker, row));
  }
  return row;
}

function showWorker(row, worker, now) {
  for (const column of COLUMNS) {
    const cell = row.cells.get(column);
    column.show(cell, worker, now, row.parts.get(column));
    cell.classList.toggle("none", cell.textContent === "–");
  }
  row.details?.update(worker, now);
}

// ---- A worker's details, below its row: its last hour, and facts

function toggleDetails(row, open) {
  const isOpen = !row.details;
  open.setAttribute("aria-expanded", String(isOpen));
  if (isOpen) {
    row.details = details(row.id);
    row.line.after(row.details.node);
    row.nodes = [row.line, row.details.node];
    if (status) show(status);
  } else {
    row.details.node.remove();
    row.details = null;
    row.nodes = [row.line];
  }
}

function details(id) {
  const graphs = graphRow("workers", id), facts = make("dl", { class: "facts" }), known = new Map();
  const logs = button("Show its log", `Log of ${id}`, () => { $("worker").value = id; restartLogs(); $("logs").scrollIntoView({ block: "nearest" }); });
  const node = make("tr", { class: "details", role: "row" }, make("td", { role: "cell", colspan: COLUMNS.length }, graphs.row, facts, make("div", { class: "buttons" }, logs)));
  const update = (worker, now) => {
    graphs.update(worker.role === "worker" ? presentOf([worker]) : {}, now);
    const { last_exit: exit, node: script } = worker;
    const all = [
      ["Process", worker.pid], ["Generation", worker.generation], ["Ready by", worker.ready_by], ["Listens on", worker.listens.join(", ")], ["Open connections", worker.open_connections], ["Connections handed out", worker.connections], ["Says", worker.status],
      ["Heap used", script?.heap_used_bytes == null ? "" : size(script.heap_used_bytes)], ["Active handles", script?.active_handles],
      ["Last exit", exit && `${exit.cause} at ${clock(exit.time)}, after ${duration(exit.lived_ms)}` + (exit.asked ? ", as asked" : "")],
    ].filter(([, words]) => words != null && words !== "");
    reconcile(known, facts, all, ([name]) => name, ([name]) => {
      const word = make("dd"), pair = make("div", {}, make("dt", {}, name), word);
      return { nodes: [pair], word };
    }, ({ word }, [, words]) => put(word, words));
    logs.hidden = !canRead();
  };
  return { node, update };
}
