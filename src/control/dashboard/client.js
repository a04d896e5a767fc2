
// ---- The API's client. Without a token, a client of the web sees states, counts and usage

const TIMEOUT = 10000, RETRY_INTERVAL = 3000;

let token = sessionStorage.getItem("token") || "";
/** This client's permission, and the ones that a token can give. */
let access = { permission: "public", tokens: [] };

const authorization = (with_ = token) => with_ ? { Authorization: "Bearer " + with_ } : {};
const canRead = () => access.permission !== "public";
const canChange = () => access.permission === "change";

/** Asks for JSON. A failure has the answer's status, or 0 without an answer. */
async function ask(path, headers = authorization()) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", headers, signal: AbortSignal.timeout(TIMEOUT) });
  } catch {
    throw { status: 0, error: "no answer" };
  }
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw { status: response.status, error: answer.error };
  return answer;
}

function setToken(value) {
  token = value;
  if (token) sessionStorage.setItem("token", token);
  else sessionStorage.removeItem("token");
}

/** Learns what this client may do; a token that is not valid any more is forgotten. */
async function learnAccess() {
  try {
    access = await ask("v1/access");
  } catch (failure) {
    if (failure.status !== 401 || !token) return;
    notice("bad", "The token of this tab is not valid any more.");
    setToken("");
    access = await ask("v1/access").catch(() => access);
  }
  put($("key"), token ? "Forget token" : "Enter token");
  $("key").hidden = !token && !access.tokens.length;
}

$("key").addEventListener("click", () => {
  if (!token) return $("token-dialog").showModal();
  setToken("");
  begin();
});
$("token-cancel").addEventListener("click", () => $("token-dialog").close());
$("token-dialog").addEventListener("close", () => { $("token").value = ""; put($("token-error"), ""); });

/** Tries a token before it is kept. */
$("token-form").addEventListener("submit", async event => {
  event.preventDefault();
  const value = $("token").value.trim(), field = $("token"), use = $("token-use");
  const refuse = why => { put($("token-error"), why); field.setAttribute("aria-invalid", "true"); field.select(); };
  field.removeAttribute("aria-invalid");
  if (!/^[!-~]+$/.test(value)) return refuse("A token has letters, digits and marks, without blanks.");
  enable(use, false);
  try {
    await ask("v1/access", authorization(value));
    setToken(value);
    $("token-dialog").close();
    begin();
  } catch (failure) {
    refuse(failure.status === 401 ? "The token is wrong." : failure.error || "rinit did not answer. Try again.");
  }
  enable(use, true);
});

/** The number of changes that are not answered yet. */
let changes = 0;

/** Makes a change, and shows its result. */
async function change(node, method, path, body) {
  changes++;
  poll();
  enable(node, false);
  node.setAttribute("aria-busy", "true");
  try {
    const headers = { ...authorization(), Accept: "application/json" };
    if (body) headers["Content-Type"] = "application/json";
    const response = await fetch(path, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
    const answer = await response.json().catch(() => ({}));
    if (response.ok) notice("good", answer.message || "Done.");
    else if (response.status === 401) begin();
    else notice("bad", answer.error || `rinit answered ${response.status} without a reason.`, answer.last_lines);
  } catch {
    notice("bad", "The connection to rinit was lost before it answered; the change may have been made.");
  }
  changes--;
  node.removeAttribute("aria-busy");
  enable(node, true);
  poll();
}

/**
 * Follows server-sent events, and connects again whatever ended them; closed while the page is hidden, since a browser has
 * few connections, and while this client may not read. (An EventSource could not send a token.)
 */
function stream(address, onEvent) {
  let connection = null, timer = 0;

  const close = () => { clearTimeout(timer); connection?.abort(); connection = null; };

  const open = () => {
    close();
    if (document.hidden || !canRead()) return;
    const own = connection = new AbortController();
    follow(own.signal).catch(() => {}).then(() => {
      if (own === connection) timer = setTimeout(open, RETRY_INTERVAL);
    });
  };

  async function follow(signal) {
    const response = await fetch(address(), { headers: { ...authorization(), Accept: "text/event-stream" }, cache: "no-store", signal });
    if (response.status === 401) begin();
    if (!response.ok) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const blocks = (text + value).split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const field = name => block.split("\n").find(line => line.startsWith(name + ": "))?.slice(name.length + 2);
        const data = field("data");
        if (data) onEvent(field("event"), JSON.parse(data));
      }
    }
  }

  return { open, close };
}
