
// ---- Logs

const MAX_LINES = 1000, MAX_LINE_LENGTH = 4096, FIRST_LINES = 300, MAX_DOWNLOAD_LINES = 10000;

let lines = [], pending = [], skipped = 0, isFollowing = true, isPaused = false, flushTimer = 0;
const newest = new Map();

function onLine(line) {
  const before = newest.get(line.worker);
  if (before != null && line.seq <= before) return;
  const gap = before == null ? 0 : line.seq - before - 1;
  if (gap) push({ note: `${count(gap, "line")} of ${line.worker} not shown` });
  newest.set(line.worker, line.seq);
  line.line = withoutEscapes(line.line);
  line.json = parseJson(line.line);
  if (line.line.length > MAX_LINE_LENGTH) line.line = line.line.slice(0, MAX_LINE_LENGTH) + ` … and ${line.line.length - MAX_LINE_LENGTH} more characters`;
  Object.assign(line, line.json ? { level: line.json.level } : levelOfText(line.line));
  push(line);
}

function push(line) {
  pending.push(line);
  if (pending.length > MAX_LINES) { pending.shift(); skipped++; }
  if (!flushTimer) flushTimer = setTimeout(flush, 100);
}

/** What is searched for, and the least level. */
const search = () => $("text").value.toLowerCase();

function matches(line) {
  if (line.note) return true;
  const least = $("level").value;
  // A line on stderr without a level may be an error.
  const rank = RANKS[line.level] ?? (line.stream === "stderr" ? RANKS.warn : RANKS.info);
  return (!least || rank >= RANKS[least]) && line.line.toLowerCase().includes(search());
}

/** A text in which what is searched for is marked. */
function marked(text) {
  const wanted = search(), nodes = [];
  if (!wanted) return [text];
  const lower = text.toLowerCase();
  let at = 0;
  for (let found; (found = lower.indexOf(wanted, at)) >= 0; at = found + wanted.length) {
    nodes.push(text.slice(at, found), make("mark", {}, text.slice(found, found + wanted.length)));
  }
  return [...nodes, text.slice(at)];
}

function lineOf(line) {
  if (line.note) return make("div", { class: "note" }, line.note);
  const head = [make("time", { datetime: line.time, title: line.time }, clock(line.time)), make("b", {}, line.worker)];
  if (line.json && line.level) head.push(make("i", { class: line.level }, line.level));
  else if (line.stream === "stderr") head.push(make("i", {}, "stderr"));
  const css = `${line.stream} ${line.level}`, text = line.line;
  if (!line.json) {
    const [from, to] = line.level && line.place || [0, 0];
    const level = to ? [make("i", { class: `word ${line.level}` }, ...marked(text.slice(from, to)))] : [];
    return make("div", { class: css }, ...head, ...marked(text.slice(0, from)), ...level, ...marked(text.slice(to)));
  }
  const { message, rest, fields } = line.json;
  const folded = make("details", {}, make("summary", {}, ...head, ...marked(message), " ", make("span", { class: "soft" }, ...marked(rest))));
  // What is folded is made when it is opened.
  folded.addEventListener("toggle", () => {
    folded.querySelector("pre") ?? folded.append(make("pre", {}, ...marked(JSON.stringify(fields, null, 2))));
  }, { once: true });
  return make("div", { class: css + " json" }, folded);
}

function flush() {
  flushTimer = 0;
  if (!isFollowing) return put($("follow"), `Follow (${skipped + pending.length} new)`);
  if (skipped) pending.unshift({ note: `${count(skipped, "line")} not shown` });
  lines = lines.concat(pending).slice(-MAX_LINES);
  const nodes = pending.filter(matches).map(lineOf);
  pending = [];
  skipped = 0;
  if (!nodes.length) return;
  const pane = $("lines");
  pane.querySelector(".empty")?.remove();
  pane.append(...nodes);
  while (pane.children.length > MAX_LINES) pane.firstChild.remove();
  pane.scrollTop = pane.scrollHeight;
}

function repaint() {
  const nodes = lines.filter(matches).map(lineOf), pane = $("lines");
  pane.replaceChildren(...nodes);
  if (!nodes.length) pane.append(make("p", { class: "empty" }, !canRead() ? needsToken() : lines.length ? "No line matches." : "No lines yet."));
  pane.scrollTop = pane.scrollHeight;
}

const needsToken = () => access.tokens.length
  ? "Log lines and events need a token: “Enter token”, above."
  : "Over the web, log lines and events need a token of --web-read-token-file or --web-token-file, or --web-public. “docker exec” and the control socket work without.";

function setFollowing(on) {
  if (on === isFollowing) return;
  isFollowing = on;
  put($("follow"), on ? "Pause" : "Follow");
  if (on) flush();
}

const logs = stream(() => {
  const query = new URLSearchParams({ follow: "true", lines: FIRST_LINES });
  if ($("worker").value) query.set("worker", $("worker").value);
  return "v1/logs?" + query;
}, (kind, data) => {
  // Lines that were missed show as a gap before the worker's next line.
  if (kind === "line") onLine(data);
});

function restartLogs() {
  lines = [];
  pending = [];
  skipped = 0;
  newest.clear();
  isPaused = false;
  setFollowing(true);
  repaint();
  for (const id of ["follow", "download", "text", "level", "worker"]) $(id).disabled = !canRead();
  logs.open();
}

/** Offers the workers, and the apps where there are several, as sources of lines. */
function offerSources(names) {
  const select = $("worker"), chosen = select.value;
  if (chosen && !names.includes(chosen)) names.push(chosen);
  if (names.join() === [...select.options].slice(1).map(option => option.value).join()) return;
  select.replaceChildren(select.options[0], ...names.map(name => make("option", {}, name)));
  select.value = chosen;
}

/** Saves the last lines of the chosen workers as a file. */
async function download(node) {
  enable(node, false);
  try {
    const name = $("worker").value, query = new URLSearchParams({ lines: MAX_DOWNLOAD_LINES });
    if (name) query.set("worker", name);
    const { lines } = await ask("v1/logs?" + query);
    const text = lines.map(line => `${line.time} ${line.worker} ${line.stream} ${line.line}\n`).join("");
    const address = URL.createObjectURL(new Blob([text], { type: "text/plain" }));
    make("a", { href: address, download: `${name || "all"}-${new Date().toISOString().slice(0, 19).replaceAll(":", "")}.log` }).click();
    setTimeout(() => URL.revokeObjectURL(address), TIMEOUT);
  } catch (failure) {
    notice("bad", `The lines could not be downloaded: ${failure.error ?? failure}`);
  }
  enable(node, true);
}

$("worker").addEventListener("change", restartLogs);
for (const id of ["text", "level"]) $(id).addEventListener("input", repaint);
$("follow").addEventListener("click", () => { isPaused = isFollowing; setFollowing(!isFollowing); });
$("download").addEventListener("click", event => download(event.currentTarget));
// Scrolling up pauses; scrolling to the end follows again.
$("lines").addEventListener("scroll", () => {
  const pane = $("lines");
  if (!isPaused) setFollowing(pane.scrollHeight - pane.scrollTop - pane.clientHeight < 24);
});
