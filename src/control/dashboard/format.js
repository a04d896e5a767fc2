// ---- Formats: the same words as the verbs (src/units.rs); a test compares them

/** A number of things: `1 worker`, `3 workers`. */
const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** A time: `312ms`, `2.1s`, `12s`, `3m12s`, `2h05m`, `3d04h`. */
function duration(ms) {
  if (ms == null) return "–";
  ms = Math.max(0, Math.floor(ms));
  const seconds = Math.floor(ms / 1000), tenths = Math.floor(ms % 1000 / 100);
  const two = (first, unit, rest, restUnit) => `${first}${unit}` + (rest ? String(rest).padStart(2, "0") + restUnit : "");
  if (seconds === 0) return `${ms}ms`;
  if (seconds < 10 && tenths) return `${seconds}.${tenths}s`;
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return two(Math.floor(seconds / 60), "m", seconds % 60, "s");
  if (seconds < 86400) return two(Math.floor(seconds / 3600), "h", Math.floor(seconds / 60) % 60, "m");
  return two(Math.floor(seconds / 86400), "d", Math.floor(seconds / 3600) % 24, "h");
}

/** A size in bytes: `512B`, `34.1M`, `1.2G`. */
function size(bytes) {
  if (bytes == null) return "–";
  if (bytes < 1024) return `${bytes}B`;
  const units = ["K", "M", "G", "T", "P"];
  let value = bytes / 1024, at = 0;
  for (; value >= 1023.95 && at < units.length - 1; at++) value /= 1024;
  return value.toFixed(1) + units[at];
}

/** A share of one CPU: `3.2%`, `120%`. */
const percent = share => share == null ? "–" : share < 99.95 ? share.toFixed(1) + "%" : share.toFixed(0) + "%";

/** A number in each second: `0.4/s`, `120/s`. */
const rate = number => number == null ? "–" : (number < 10 ? number.toFixed(1) : number.toFixed(0)) + "/s";

/** The time of day in the browser's time zone, with the day if it is another one. */
function clock(time) {
  const at = new Date(time), isToday = at.toDateString() === new Date().toDateString();
  return (isToday ? "" : at.toLocaleDateString("en-GB", { day: "2-digit", month: "short" }) + " ") + at.toLocaleTimeString("en-GB");
}
