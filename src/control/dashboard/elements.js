
// ---- Elements: data becomes text, never markup

const $ = id => document.getElementById(id);

/** An element with attributes and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const isSvg = ["svg", "path"].includes(tag);
  const node = isSvg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** Changes a text only where it differs, so that a selection survives and nothing is drawn again. */
const put = (node, text) => node.textContent === String(text) || (node.textContent = text);

const putClass = (node, name) => node.className === name || (node.className = name);

const putTitle = (node, text) => node.title === text || (node.title = text);

/** A button. While it is busy or disabled it keeps its focus, and does nothing. */
function button(text, label, act) {
  const node = make("button", { type: "button", "aria-label": label }, text);
  node.addEventListener("click", () => node.getAttribute("aria-disabled") === "true" || act(node));
  return node;
}

const enable = (node, on) => node.setAttribute("aria-disabled", String(!on));

/** Keeps a list of parts in the order of items: makes what is new, updates what is there, removes what is gone. */
function reconcile(known, parent, items, key, create, update) {
  const seen = new Set();
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    seen.add(name);
    if (!known.has(name)) known.set(name, create(item));
    const part = known.get(name);
    for (const node of part.nodes) {
      if (node === place) place = place.nextSibling;
      else parent.insertBefore(node, place);
    }
    update(part, item);
  }
  for (const [name, part] of known) {
    if (seen.has(name)) continue;
    part.nodes.forEach(node => node.remove());
    known.delete(name);
  }
}

// ---- Notices: above the page, so that nothing moves

const MAX_NOTICES = 4, NOTICE_TIME = 8000;

function notice(tone, text, lines = []) {
  const close = button("✕", "Dismiss", () => box.remove());
  const box = make("div", { class: "card notice " + tone, role: tone === "bad" ? "alert" : "status" }, make("p", {}, text), close);
  if (lines.length) box.append(make("pre", { tabindex: 0, "aria-label": "Its last lines on stderr" }, lines.join("\n")));
  $("notices").append(box);
  while ($("notices").children.length > MAX_NOTICES) $("notices").firstChild.remove();
  if (tone === "good") setTimeout(() => box.remove(), NOTICE_TIME);
}

/** Asks before a change that takes something away. */
function confirmed(question, yes) {
  const dialog = $("confirm");
  put($("question"), question);
  put($("confirm-yes"), yes);
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise(done => dialog.addEventListener("close", () => done(dialog.returnValue === "yes"), { once: true }));
}
