
// ---- What a line of a log says of itself

/** The lengths up to which JSON is read, and its fields are shown while it is folded, in characters. */
const MAX_JSON_LENGTH = 16384, MAX_FOLDED_LENGTH = 600;

/** Levels by rank. pino and bunyan write numbers. */
const RANKS = { debug: 0, info: 1, warn: 2, error: 3 };
const LEVELS = new Map(Object.entries({
  trace: "debug", debug: "debug", verbose: "debug", info: "info", information: "info", notice: "info", warn: "warn", warning: "warn",
  err: "error", error: "error", severe: "error", fatal: "error", critical: "error", crit: "error", alert: "error", emerg: "error", panic: "error",
}));

function levelName(value) {
  if (typeof value === "number") return value >= 50 ? "error" : value >= 40 ? "warn" : value >= 30 ? "info" : "debug";
  return LEVELS.get(String(value ?? "").toLowerCase()) ?? "";
}

/**
 * The level that a line's text names, and where: `level=warn`, `ERROR` near the beginning, or `error:` and `[error]` at the
 * beginning, after a time.
 */
function levelOfText(text) {
  const patterns = [
    /\blevel=["']?(\w+)/di,
    /(?<![\w-])(TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERR|ERROR|FATAL|CRITICAL|PANIC)(?![\w-])/d,
    /^[\s\d:.,TZ+/-]*[[(<]?(trace|debug|info|notice|warn|warning|err|error|fatal|critical|panic)(?=[\]):>])/di,
  ];
  const found = patterns.map(pattern => pattern.exec(text.slice(0, 80))).find(found => found && levelName(found[1]));
  return found ? { level: levelName(found[1]), place: found.indices[1] } : { level: "" };
}

/** Reads a line that is a JSON object: its level, its message, and the other fields. */
function parseJson(text) {
  if (!text.startsWith("{") || text.length > MAX_JSON_LENGTH) return null;
  let fields;
  try { fields = JSON.parse(text); } catch { return null; }
  const take = names => names.find(name => fields[name] != null && typeof fields[name] !== "object");
  const message = take(["msg", "message", "event", "error"]), level = take(["level", "severity", "log.level", "lvl", "levelname"]);
  const time = take(["time", "timestamp", "@timestamp", "ts"]);
  const rest = Object.entries(fields).filter(([name]) => ![message, level, time].includes(name));
  const words = rest.map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
  return { fields, level: levelName(fields[level] ?? fields.log?.level), message: message ? String(fields[message]) : "", rest: words.length > MAX_FOLDED_LENGTH ? words.slice(0, MAX_FOLDED_LENGTH) + "…" : words };
}

/** Removes escape sequences, which are for terminals. */
const withoutEscapes = text => text.replace(/\x1b(\[[0-?]*[ -\/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|[@-Z\\^_])/g, "");
