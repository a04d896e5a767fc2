// Tests the dashboard in a real browser, by names and texts, not by places in the page.
// Arguments: the browser, the address, the token, the packages. Exits with 0, or prints what is wrong.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [program, address, token, packages] = process.argv.slice(2);
const { chromium } = createRequire(packages + "/")("playwright-core");

const browser = await chromium.launch({ executablePath: program, args: ["--no-sandbox", "--disable-dev-shm-usage"] });
const wrong = [];

/** Opens a page and collects its errors. */
async function open(options) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(30_000);
  const page = await context.newPage();
  page.on("console", message => message.type() === "error" && wrong.push(message.text()));
  page.on("pageerror", error => wrong.push(String(error)));
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation",
    event => console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sample}`)));
  const answer = await page.goto(address);
  const policy = answer.headers()["content-security-policy"];
  for (const part of ["default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]) {
    assert.ok(policy?.includes(part), `the policy has no ${part}: ${policy}`);
  }
  assert.ok(!policy.includes("unsafe"), policy);
  return page;
}

const row = (page, name) => page.getByRole("row").filter({ has: page.getByRole("button", { name: `Logs of ${name}`, exact: true }) });
const ready = (page, name) => row(page, name).getByRole("cell", { name: "ready", exact: true }).waitFor();
const act = (page, name) => page.getByRole("button", { name, exact: true });

async function enter(page, secret) {
  await act(page, "Enter token").click();
  // The dialog's field has the focus.
  await page.keyboard.type(secret);
  await page.keyboard.press("Enter");
}

/** The browser itself reports answers with 401; nothing else may be reported. */
function expectRefusals() {
  assert.ok(wrong.every(text => text.includes("401")), wrong.join("\n"));
  wrong.length = 0;
}

try {
  for (const options of [
    { viewport: { width: 1280, height: 800 }, colorScheme: "light" },
    { viewport: { width: 390, height: 844 }, colorScheme: "dark", isMobile: true, hasTouch: true },
  ]) {
    const page = await open(options);
    await ready(page, "web-0");
    await ready(page, "web-1");
    await page.getByRole("status").filter({ hasText: "Live" }).waitFor();
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= room, `the page is ${wide} wide in a window of ${room}`);

    // Without a token there are states, counts and usage, and no lines, events or changes.
    const lines = page.getByRole("region", { name: "Log lines" });
    const events = page.getByRole("list", { name: /^Events/ });
    await lines.getByText(/needs the header `Authorization/).waitFor();
    await events.getByText(/needs the header `Authorization/).waitFor();
    assert.equal(await act(page, "One worker more").isVisible(), false);
    assert.equal(await act(page, "Reload").isVisible(), false);
    expectRefusals();

    // A wrong token is refused when it is given.
    await enter(page, "not-the-token");
    const refusal = page.getByRole("alert");
    await refusal.getByText(/token is wrong/).first().waitFor();
    await act(page, "Enter token").waitFor();
    await refusal.getByRole("button", { name: "Dismiss" }).first().click();
    expectRefusals();

    await enter(page, token);
    // Lines that were there, and lines that come.
    await lines.getByText("web-1").first().waitFor();
    const before = await lines.locator("div").count();
    await lines.locator("div").nth(before + 4).waitFor();
    // Markup in a line is text.
    await lines.getByText("<b>bold</b>").first().waitFor();
    assert.equal(await lines.locator("b b, div > b ~ b").count(), 0);
    await events.getByText(/web-0.* started/).first().waitFor();
    await act(page, "One worker more").click();
    await ready(page, "web-2");
    await act(page, "One worker fewer").click();
    await row(page, "web-2").waitFor({ state: "detached" });
    await act(page, "Reload").click();
    await page.getByText(/^Generation \d+, reloaded at/).waitFor();
    // The token is the tab's: it lasts for a new load of the page, and is nobody else's.
    await page.reload();
    await act(page, "Reload").waitFor();
    await page.context().close();
    assert.deepEqual(wrong, []);
  }
} finally {
  await browser.close();
}
