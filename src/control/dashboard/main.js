
// ---- Events

const MAX_EVENTS = 200;

let latest = -1;

function onEvent(event) {
  if (event.seq <= latest) return;
  latest = event.seq ?? latest;
  const list = $("events"), tone = { error: "bad", warn: "warn", debug: "soft" }[event.level] || "";
  list.querySelector(".empty")?.remove();
  const word = tone === "bad" || tone === "warn" ? make("span", { class: "visually-hidden" }, event.level + ": ") : "";
  list.prepend(make("li", {}, make("time", { datetime: event.time, title: event.time }, clock(event.time)),
    make("span", { class: tone }, word, event.message || `${count(event.missed, "event")} not shown`)));
  while (list.children.length > MAX_EVENTS) list.lastChild.remove();
}

const showNoEvents = why => $("events").replaceChildren(make("li", { class: "empty" }, why));

const events = stream(() => "v1/events" + (latest < 0 ? "" : "?since=" + (latest + 1)), (_, event) => onEvent(event));

// ---- The status, asked for again and again while the page is visible

const POLL_INTERVAL = 2000, POLL_INTERVAL_IN_CHANGE = 400;

const isChanging = () => changes > 0 || status?.apps.some(app => app.reload);

let status = null, timer = 0, isPolling = false, lastAnswer = Date.now();

/** The worst condition of all apps. */
function worst(next) {
  if (next.state !== "running") return ["warn", "Stopping"];
  const order = ["crash-looping", "down", "degraded", "starting", "waiting", "ready", "idle"];
  const condition = order.find(one => next.apps.some(app => app.condition === one)) ?? "idle";
  const isReloading = condition === "ready" && next.apps.some(app => app.reload);
  return isReloading ? ["busy", "Reloading"] : CONDITIONS[condition];
}

function show(next) {
  const names = next.apps.map(app => app.name), sum = what => next.apps.reduce((sum, app) => sum + app[what], 0);
  const now = Date.parse(next.started) + next.uptime_ms, [tone, words] = worst(next);
  span = SPANS.find(span => next.uptime_ms <= span) ?? SPANS.at(-1);
  put($("about"), `${next.version}, up ${duration(next.uptime_ms)}`);
  put($("condition"), words);
  putClass($("condition"), "pill " + tone);
  // One app has its condition in its section.
  $("condition").hidden = next.apps.length === 1 && next.state === "running";
  const title = `${sum("ready")}/${sum("wanted")} ${words} · ${names.join(", ")}`;
  if (document.title !== title) document.title = title;
  findTops();
  reconcile(apps, $("apps"), next.apps, app => app.name, app => appSection(app.name), (part, app) => showApp(part, app, next.workers, now));
  put($("announcement"), `${sum("ready")} of ${count(sum("wanted"), "worker")} ready: ${words}`);
  offerSources([...names.length > 1 ? names : [], ...new Set(next.workers.map(worker => worker.id))]);
}

async function poll() {
  clearTimeout(timer);
  if (document.hidden || isPolling) return;
  isPolling = true;
  const answer = await ask("v1/status").catch(failure => failure.status === 401 && token ? begin() : null);
  isPolling = false;
  clearTimeout(timer);
  timer = setTimeout(poll, isChanging() ? POLL_INTERVAL_IN_CHANGE : POLL_INTERVAL);
  if (answer) lastAnswer = Date.now();
  putClass($("link"), answer ? "good" : "bad");
  put($("link"), answer ? "Live" : `No answer for ${duration(Date.now() - lastAnswer)}`);
  if (!answer) return;
  if (status && status.started !== answer.started) begin();
  status = answer;
  show(status);
}

// ---- Start

/** Starts anew: when the page opens, with another token, and when another rinit answers at this address. */
async function begin() {
  await learnAccess();
  latest = -1;
  showNoEvents(canRead() ? "No events yet." : needsToken());
  events.open();
  restartLogs();
  await poll();
  pollHistory();
}

document.addEventListener("visibilitychange", () => {
  for (const one of [logs, events]) if (document.hidden) one.close(); else one.open();
  poll();
  pollHistory();
});

begin();
