
// ---- Graphs of the last hour: rinit's own history, and the present value at its end

const HISTORY_INTERVAL = 15000, POINTS = 120, MANY_WORKERS = 32, POINTS_OF_MANY = 60;
/** The lengths of the time axis: the first that holds rinit's life, else the last. */
const SPANS = [300000, 900000, 3600000];

/** The measures, in their order; `least` is the least top of the axis. `isOptional`: shown once there are values. */
const MEASURES = [
  { key: "cpu_percent", name: "CPU", css: "cpu", words: percent, least: 10 },
  { key: "memory_bytes", name: "Memory", css: "memory", words: size, least: 1 << 20, isBinary: true },
  { key: "connections", name: "New connections", css: "connections", words: rate, least: 10, isOptional: true, isRate: true },
  { key: "event_loop_lag_ms", name: "Event-loop lag", css: "lag", words: duration, least: 10, isOptional: true },
  { key: "restarts", name: "Restarts", css: "restarts", words: value => String(value ?? 0), least: 4, isBars: true },
];

let past = { time: null, interval_ms: HISTORY_INTERVAL, apps: [], workers: [] }, pastTimer = 0, span = SPANS[0];

/** Asks for the history again and again, while the page is visible. */
async function pollHistory() {
  clearTimeout(pastTimer);
  if (document.hidden) return;
  const points = (status?.workers.length ?? 0) > MANY_WORKERS ? POINTS_OF_MANY : POINTS;
  const next = await ask("v1/history?points=" + points).catch(() => null);
  if (next) {
    past = next;
    if (status) show(status);
  }
  clearTimeout(pastTimer);
  // Soon, where there is none yet.
  pastTimer = setTimeout(pollHistory, past.time ? HISTORY_INTERVAL : POLL_INTERVAL);
}

/** The points of a measure, times and values, oldest first; the last one is the present. */
function pointsOf(kind, name, measure, present, now) {
  const values = past[kind].find(one => one.name === name)?.[measure.key] ?? [];
  const end = past.time ? Date.parse(past.time) : now;
  const scale = measure.isRate ? 1000 / past.interval_ms : 1;
  const points = values.map((value, at) => ({ time: end - (values.length - 1 - at) * past.interval_ms, value: value == null ? null : value * scale }));
  if (present !== undefined) points.push({ time: now, value: present });
  return points.filter(point => point.time >= now - span - past.interval_ms);
}

/** The first round number that holds a value: 1, 2 or 5 times a power of ten, or a power of two. */
function roundTop(value, measure) {
  let top = measure.least;
  if (measure.isBinary) while (top < value) top *= 2;
  else for (let step = 0; top < value; step++) top *= [2, 2.5, 2][step % 3];
  return top;
}

const WIDTH = 240, HEIGHT = 40;

/** Draws points into a box: a line and what is under it, or bars. A value that is not known is a gap. */
function trace(svg, points, measure, top, now) {
  const x = time => Math.max(0, WIDTH - (now - time) / span * WIDTH), y = value => HEIGHT - Math.min(1, value / top) * HEIGHT;
  let line = "", area = "", run = [];
  const endRun = () => {
    if (run.length) {
      const path = run.map(([left, up]) => `${left.toFixed(1)} ${up.toFixed(1)}`).join("L");
      line += "M" + path + (run.length === 1 ? "h.1" : "");
      area += `M${run[0][0].toFixed(1)} ${HEIGHT}L${path}L${run.at(-1)[0].toFixed(1)} ${HEIGHT}Z`;
    }
    run = [];
  };
  const width = past.interval_ms / span * WIDTH;
  for (const { time, value } of points) {
    if (measure.isBars) {
      if (value) area += `M${Math.max(0, x(time) - width).toFixed(1)} ${HEIGHT}V${y(value).toFixed(1)}h${Math.max(1, width - .3).toFixed(1)}V${HEIGHT}Z`;
    } else if (value == null) endRun();
    else run.push([x(time), y(value)]);
  }
  endRun();
  svg.firstChild.setAttribute("d", area);
  svg.lastChild.setAttribute("d", line);
}

function plot(measure, name) {
  return make("svg", { class: `${name} ${measure.css}`, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    make("path", { class: "area" }), make("path", { class: "line", "vector-effect": "non-scaling-stroke" }));
}

/** A figure with its present value, its top and its time axis. The pointer, or the arrow keys, show the value at a time. */
function graph(measure, of) {
  const svg = plot(measure, "plot"), now = make("output"), top = make("span", { class: "top" }), from = make("span");
  const cursor = make("span", { class: "cursor", hidden: "" });
  const box = make("div", { class: "box", role: "img", tabindex: 0 }, svg, top, cursor);
  const figure = make("figure", { class: "graph" }, make("figcaption", {}, measure.name), now, box, make("div", { class: "axis" }, from, make("span", {}, "now")));
  const part = { nodes: [figure], figure };
  let points = [], end = 0, caption = "", picked = null;

  /** Shows the point nearest to a time; null: the present again. */
  function pick(time) {
    const nearest = time == null ? undefined : points.reduce((best, point) =>
      best && Math.abs(best.time - time) <= Math.abs(point.time - time) ? best : point, undefined);
    picked = nearest ? nearest.time : null;
    cursor.hidden = !nearest;
    if (nearest) cursor.style.setProperty("inset-inline-start", Math.max(0, 100 - (end - nearest.time) / span * 100) + "%");
    put(now, nearest ? `${measure.words(nearest.value)} at ${clock(nearest.time)}` : caption);
  }
  box.addEventListener("pointermove", event => {
    const place = box.getBoundingClientRect();
    pick(end - span * (1 - (event.clientX - place.left) / place.width));
  });
  for (const leave of ["pointerleave", "blur"]) box.addEventListener(leave, () => pick(null));
  box.addEventListener("keydown", event => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const at = picked == null ? points.length : points.findIndex(point => point.time >= picked);
    pick(points[Math.max(0, Math.min(points.length - 1, at + step))]?.time);
    put($("announcement"), `${measure.name} of ${of}: ${now.textContent}`);
  });

  part.update = (next, present, words) => {
    const most = Math.max(0, ...next.map(point => point.value ?? 0)), edge = roundTop(most, measure);
    [points, end, caption] = [next, present, words];
    pick(picked);
    put(top, measure.words(edge));
    put(from, `${span / 60000} min ago`);
    const summary = `${measure.name} of ${of}: ${caption}, at most ${measure.words(most)} in the last ${span / 60000} minutes`;
    if (box.getAttribute("aria-label") !== summary) box.setAttribute("aria-label", summary);
    trace(svg, next, measure, edge, present);
  };
  return part;
}

/** The graphs of an app or a worker, in a row. */
function graphRow(kind, name) {
  const row = make("div", { class: "graphs" }), known = new Map();
  const update = (present, now) => {
    const shown = MEASURES.map(measure => ({ measure, points: pointsOf(kind, name, measure, present[measure.key], now) }))
      .filter(({ measure, points }) => !measure.isOptional || points.some(point => point.value != null));
    reconcile(known, row, shown, ({ measure }) => measure.key, ({ measure }) => graph(measure, name), (one, { measure, points }) => {
      const sum = points.reduce((sum, point) => sum + (point.value || 0), 0);
      one.update(points, now, measure.isBars ? `${sum} in ${span / 60000} min` : measure.words(points.at(-1)?.value));
    });
  };
  return { row, update };
}
