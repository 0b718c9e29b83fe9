// Put in front of a script that drives a page: a Chromium of its own, and words to and from the test.
// Arguments: the path of Chromium, a folder for its profile, then the script's own (`own`).
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const [executablePath, profile, ...own] = process.argv.slice(1);
const PATIENCE = 15_000; // ms for anything on a page
const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  colorScheme: "light",
  viewport: { width: 1280, height: 960 },
  reducedMotion: "reduce",
  args: ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const page = context.pages()[0];
page.setDefaultTimeout(PATIENCE);

const troubles = []; // what the page complained about; expected ones are taken out by the script
const foreign = new Set(); // requests that left the page's own host
page.on("console", (message) => {
  if (!["error", "warning"].includes(message.type())) return;
  troubles.push(`${message.type()}: ${message.text()} (${message.location().url})`);
});
page.on("pageerror", (error) => troubles.push(`error: ${error.stack}`));
page.on("request", (request) => {
  const { hostname, protocol } = new URL(request.url());
  if (hostname !== "127.0.0.1" && protocol !== "data:") foreign.add(request.url());
});

const t = (id) => page.getByTestId(id);

/** Wait until the text of an element matches; answers the text. */
async function until(locator, pattern) {
  const found = typeof locator === "string" ? t(locator) : locator;
  try {
    await found.filter({ hasText: pattern }).first().waitFor();
  } catch {
    throw new Error(`${locator}: ${JSON.stringify(await found.first().innerText())} never matched ${pattern}`);
  }
  return found.first().innerText();
}

const count = async (id, pattern) => ((await t(id).innerText()).match(pattern) ?? []).length;

function assert(condition, words) {
  if (!condition) throw new Error(words);
}

/** Say a word to the test, and wait for its answer. */
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
async function tell(word) {
  console.log(word);
  const { value, done } = await answers.next();
  assert(!done, "the test has gone");
  return value;
}

async function drive(steps) {
  try {
    console.log("end", JSON.stringify((await steps()) ?? null)); // what the script found, for the test to judge
  } catch (error) {
    console.log(`failed: ${error.message}`);
    await page.screenshot({ path: `${profile}/failure.png` });
    process.exitCode = 1;
  }
  await context.close();
  process.exit();
}
