// Opens the demo page in Chromium, watches its counters, and collects ids with an EventSource of its own beside it.
// Usage: node demo.mjs BASE_URL SCREENSHOT
// Prints a line of JSON every 200 ms: the text of each counter, and the ids collected since the last line.
// When its standard input ends it takes the screenshot and goes.
import { standardInputEnds, withPage } from "./chromium.mjs";

const [base, screenshot] = process.argv.slice(2);
const COUNTERS = ["last-id", "received", "missed", "duplicates", "state", "gaps"];

function collect() {
  globalThis.collected = [];
  globalThis.gaps = [];
  const source = new EventSource("/v1/events?topic=**&type=trade&type=trade-off-exchange&from=latest");
  for (const type of ["trade", "trade-off-exchange"]) {
    source.addEventListener(type, (event) => globalThis.collected.push(event.lastEventId));
  }
  source.addEventListener("$gap", (event) => globalThis.gaps.push(event.data));
}

function snapshot(counters) {
  const texts = counters.map((id) => [id, document.getElementById(id)?.textContent?.trim() ?? null]);
  return { ...Object.fromEntries(texts), collected: globalThis.collected.splice(0), own_gaps: globalThis.gaps };
}

await withPage(async (page) => {
  await page.setViewportSize({ width: 1280, height: 900 });
  await page.goto(base + "/", { waitUntil: "domcontentloaded" });
  await page.evaluate(collect);
  let over = false;
  standardInputEnds().then(() => (over = true));
  while (!over) {
    process.stdout.write(JSON.stringify(await page.evaluate(snapshot, COUNTERS)) + "\n");
    await page.waitForTimeout(200);
  }
  await page.screenshot({ path: screenshot });
});
process.exit(0);
