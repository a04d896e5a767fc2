// Tests the dashboard in a real browser, by names and texts, not by places in the page.
// Arguments: the browser, the packages, and a JSON object: addresses and tokens. Exits with 0, or prints what is wrong.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { NOW, answers } from "./answers.mjs";

const [program, packages, given] = process.argv.slice(2);
const { address, closed, readToken, changeToken, pictures } = JSON.parse(given);
const { chromium } = createRequire(packages + "/")("playwright-core");

const SIZES = { desk: { width: 1280, height: 860 }, tablet: { width: 820, height: 1100 }, phone: { width: 390, height: 844 } };
const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const wrong = [];

/** Opens a page and collects its errors. With prepared answers, it shows those of another rinit. */
async function open(at, size, colorScheme, prepared) {
  const isPhone = size === "phone";
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme, isMobile: isPhone, hasTouch: isPhone, deviceScaleFactor: isPhone ? 2 : 1, timezoneId: "UTC" });
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  page.on("console", message => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", error => wrong.push(String(error)));
  page.on("request", request => request.url().startsWith(at) || request.url().startsWith("data:") || request.url().startsWith("blob:") || wrong.push(`asks for ${request.url()}`));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
    event => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  if (prepared) await page.clock.setFixedTime(NOW);
  for (const [path, answer] of Object.entries(prepared ?? {})) {
    await page.route(url => url.pathname === path, route => route.fulfill({ contentType: answer.startsWith("event:") ? "text/event-stream" : "application/json", body: answer }));
  }
  const answer = await page.goto(at);
  const policy = answer.headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]) {
    assert.ok(policy?.includes(part), `the policy has no ${part}: ${policy}`);
  }
  assert.ok(!policy.includes("unsafe"), policy);
  return page;
}

const row = (page, name) => page.getByRole("row").filter({ has: page.getByRole("button", { name, exact: true }) });
const ready = (page, name) => row(page, name).getByRole("cell", { name: "ready", exact: true }).waitFor();
const act = (page, name) => page.getByRole("button", { name, exact: true });
const region = (page, name) => page.getByRole("region", { name, exact: true });
const until = async (what, holds) => {
  for (const end = Date.now() + 30_000; !await holds(); await new Promise(done => setTimeout(done, 50))) assert.ok(Date.now() < end, `not so: ${what}`);
};

/** Nothing is wider than the window, and nothing is below the page's end. */
async function fits(page, where) {
  const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(wide <= room, `${where}: the page is ${wide} wide in a window of ${room}`);
  const [tall, end] = await page.evaluate(() => [document.documentElement.scrollHeight, scrollY + document.querySelector("footer").getBoundingClientRect().bottom]);
  assert.ok(tall - Math.max(end, page.viewportSize().height) < 2, `${where}: the page is ${tall} tall and ends at ${end}`);
}

/** Every text has the contrast that WCAG 2.2 AA (1.4.3) asks for. */
async function hasContrast(page, where) {
  const faults = await page.evaluate(() => {
    const parse = text => { const [r, g, b, a = 1] = text.match(/[\d.]+/g).map(Number); return { r, g, b, a }; };
    const luminance = ({ r, g, b }) => [r, g, b].map(one => one / 255).map(one => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
      .reduce((sum, one, at) => sum + one * [.2126, .7152, .0722][at], 0);
    const ground = element => { for (let one = element; one; one = one.parentElement) { const color = parse(getComputedStyle(one).backgroundColor); if (color.a === 1) return color; } return { r: 255, g: 255, b: 255 }; };
    const faults = [];
    for (const element of document.querySelectorAll("body *")) {
      const text = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join("").trim();
      const style = getComputedStyle(element), isOff = element.closest(":disabled, [aria-disabled=true], option, script, style, noscript");
      if (!text || isOff || !element.checkVisibility({ visibilityProperty: true }) || element.closest(".visually-hidden, dialog:not([open])")) continue;
      const [light, dark] = [luminance(parse(style.color)), luminance(ground(element))].sort((a, b) => b - a);
      const size = parseFloat(style.fontSize), isLarge = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
      const ratio = (light + .05) / (dark + .05);
      if (ratio < (isLarge ? 3 : 4.5)) faults.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)} (${style.color})`);
    }
    return faults;
  });
  assert.deepEqual(faults, [], where);
}

async function enter(page, secret) {
  await page.getByRole("textbox", { name: "Token" }).fill(secret);
  await page.keyboard.press("Enter");
}

/** Without any token in rinit's settings there is no button for one, and the page says what shows more. */
async function withoutTokens() {
  const page = await open(closed, "desk", "light");
  await ready(page, "web-0");
  await page.getByRole("status").filter({ hasText: "Live" }).waitFor();
  await region(page, "Log lines").getByText(/need a token of --web-read-token-file/).waitFor();
  assert.equal(await act(page, "Enter token").isVisible(), false);
  assert.equal(await act(page, "Reload web").isVisible(), false);
  await page.getByRole("img", { name: /^CPU of web: / }).waitFor();
  await page.context().close();
}

/** The way of somebody who opens the page, reads, and then changes something. */
async function withTokens(size, colorScheme) {
  const page = await open(address, size, colorScheme), lines = region(page, "Log lines");
  const events = page.getByRole("list", { name: /^Events/ });
  await ready(page, "web-0");
  await ready(page, "web-1");
  await page.getByRole("status").filter({ hasText: "Live" }).waitFor();

  // Without a token there are states, counts and usage, and no lines, events or changes; and nothing is asked for in vain.
  await lines.getByText(/need a token: “Enter token”/).waitFor();
  assert.equal(await act(page, "Reload web").isVisible(), false);
  assert.deepEqual(wrong, []);

  // A wrong token is refused while it is given.
  await act(page, "Enter token").click();
  await enter(page, "not-the-token");
  await page.getByRole("alert").getByText("The token is wrong.").waitFor();
  assert.ok(wrong.every(text => text.includes("401")), wrong.join("\n"));
  wrong.length = 0;
  await enter(page, "two words");
  await page.getByRole("alert").getByText(/without blanks/).waitFor();

  // A token for reading shows lines and events, and changes nothing.
  await enter(page, readToken);
  await lines.getByText("web-1").first().waitFor();
  await events.getByText(/web-0.* started/).first().waitFor();
  assert.equal(await act(page, "Reload web").isVisible(), false);
  await act(page, "Forget token").click();
  await lines.getByText(/need a token/).waitFor();
  await act(page, "Enter token").click();
  await enter(page, changeToken);
  await act(page, "Reload web").waitFor();

  await readsLogs(page, lines);
  await act(page, "One worker more of web").click();
  await ready(page, "web-2");
  await act(page, "One worker fewer of web").click();
  await row(page, "web-2").waitFor({ state: "detached" });
  await act(page, "Reload web").click();
  await page.getByText(/^Reloading to generation \d+: \d of \d replaced/).waitFor();
  await page.getByText(/^Generation \d+, reloaded at/).waitFor();

  // A question before a worker is stopped.
  await act(page, "Stop web-1").click();
  const question = page.getByRole("dialog").filter({ hasText: "Stop web-1?" });
  await question.getByRole("button", { name: "Cancel" }).click();
  await act(page, "Stop web-1").click();
  await question.getByRole("button", { name: "Stop it" }).click();
  await row(page, "web-1").getByRole("cell", { name: "stopped", exact: true }).waitFor();
  await act(page, "Start web-1").click();
  await ready(page, "web-1");

  // The details of a worker, by the keyboard.
  await act(page, "web-0").focus();
  await page.keyboard.press("Enter");
  await page.getByRole("img", { name: /^Memory of web-0: / }).waitFor();
  assert.equal(await act(page, "web-0").getAttribute("aria-expanded"), "true");
  await act(page, "Log of web-0").click();
  await until("only its lines", async () => await lines.getByText("web-1", { exact: true }).count() === 0 && await lines.getByText("web-0", { exact: true }).count() > 3);
  await act(page, "web-0").click();
  await page.getByLabel("Lines of", { exact: true }).selectOption("");

  // Lines and events come and go inside their panes: the page does not grow.
  const height = () => page.evaluate(() => document.documentElement.scrollHeight);
  const before = await height(), count = await lines.locator("> div").count();
  await lines.locator("> div").nth(count + 20).waitFor();
  assert.equal(await height(), before);
  await fits(page, size);
  await hasContrast(page, `${size}, ${colorScheme}`);

  // The token is the tab's: it lasts for a new load of the page, and is nobody else's.
  await page.reload();
  await act(page, "Reload web").waitFor();
  await page.context().close();
  assert.deepEqual(wrong, []);
}

/** Levels, search, lines of JSON, pause and download. */
async function readsLogs(page, lines) {
  await lines.getByText("<b>bold</b>").first().waitFor();
  assert.equal(await lines.locator("b b, div > b ~ b").count(), 0, "markup in a line is text");
  const folded = lines.locator("summary").filter({ hasText: "connection refused" }).first();
  await folded.waitFor();
  assert.match(await folded.innerText(), /error.*connection refused.*host=db-1/s);
  await act(page, "Pause").click();
  await folded.focus();
  await page.keyboard.press("Enter");
  await lines.getByText('"host": "db-1"').first().waitFor();
  const count = () => lines.locator("> div").count(), paused = await count();
  await act(page, /^Follow \(\d+ new\)$/).waitFor();
  assert.equal(await count(), paused);
  await act(page, /^Follow/).click();
  await until("the lines go on", async () => await count() > paused);

  await page.getByLabel("Levels").selectOption("error");
  await lines.getByText("<b>bold</b>").first().waitFor({ state: "detached" });
  await lines.getByText("connection refused").first().waitFor();
  await page.getByLabel("Levels").selectOption("");
  await page.getByLabel("Only lines that contain").fill("BOLD");
  await lines.getByText("connection refused").first().waitFor({ state: "detached" });
  await lines.locator("mark").filter({ hasText: "bold" }).first().waitFor();
  await page.getByLabel("Only lines that contain").fill("nothing has this");
  await lines.getByText("No line matches.").waitFor();
  await page.getByLabel("Only lines that contain").fill("");

  const [file] = await Promise.all([page.waitForEvent("download"), act(page, "Download").click()]);
  assert.match(file.suggestedFilename(), /^all-.*\.log$/);
  assert.match(await readFile(await file.path(), "utf8"), /^\S+Z web-\d stdout .*bold/m);
}

/** Several apps in every state, as another rinit would answer, at every size, dark and light. */
async function severalApps() {
  for (const [size, colorScheme] of Object.keys(SIZES).flatMap(size => [[size, "light"], [size, "dark"]])) {
    const page = await open(address, size, colorScheme, answers()), where = `${size}, ${colorScheme}`;
    const app = name => region(page, `App ${name}`);
    await app("web").getByText(/^Reloading to generation 3: 2 of 4 replaced, the new web-2 is starting for/).waitFor();
    await app("queue").getByText("Crash-looping", { exact: true }).waitFor();
    await app("mail").getByText("Degraded", { exact: true }).waitFor();
    assert.equal(await app("web").getByRole("listitem").filter({ hasText: "web-2: ready, replacement starting" }).count(), 1);
    assert.equal(await row(page, "queue-1").getByText(/^crash-looping 3\.4s$/).count(), 1);
    assert.equal(await row(page, "web-0").getByText("41", { exact: true }).count(), 1, "open connections");
    // A long command is one line until it is opened.
    const command = app("web").locator("summary"), line = (await command.boundingBox()).height;
    assert.ok(line < 40, `${line}`);
    for (const name of ["CPU", "Memory", "Restarts", "Event-loop lag", "New connections"]) {
      await page.getByRole("img", { name: new RegExp(`^${name} of web: .* in the last 60 minutes$`) }).waitFor();
    }
    assert.equal(await page.getByRole("img", { name: /^Event-loop lag of queue/ }).count(), 0, "a measure that it does not have");
    const isPicture = pictures && ["desk light", "phone dark"].includes(`${size} ${colorScheme}`);
    if (isPicture) await page.screenshot({ path: `${pictures}/dashboard-${size}.png`, fullPage: size === "desk" });
    // A graph tells its values to the keyboard.
    await page.getByRole("img", { name: /^CPU of queue: / }).focus();
    await page.keyboard.press("ArrowLeft");
    await app("queue").getByText(/^[\d.]+% at \d\d:\d\d:\d\d$/).waitFor();
    await page.keyboard.press("Tab");
    await fits(page, where);
    await hasContrast(page, where);
    await page.context().close();
    assert.deepEqual(wrong, [], where);
  }
}

try {
  await withoutTokens();
  await withTokens("desk", "light");
  await withTokens("phone", "dark");
  await severalApps();
} finally {
  await browser.close();
}
