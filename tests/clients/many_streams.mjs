// Opens many EventSources on one page that came over TLS, to a broker whose certificate nobody vouches for.
// Usage: node many_streams.mjs BASE_URL COUNT
// Prints a line of JSON every 200 ms until its standard input ends: how many are open, the ids that each has got, and the
// protocols that the page's requests were made with.
import { standardInputEnds, withPage } from "./chromium.mjs";

const [base, count] = process.argv.slice(2);

function follow(count) {
  globalThis.ids = Array.from({ length: count }, () => []);
  globalThis.sources = globalThis.ids.map((ids) => {
    const source = new EventSource("/v1/topics/t.a/events?from=latest");
    source.onmessage = (event) => ids.push(event.lastEventId);
    return source;
  });
}

async function snapshot() {
  const open = globalThis.sources.filter((source) => source.readyState === EventSource.OPEN).length;
  await fetch("/healthz");
  const protocols = performance.getEntriesByType("resource").map((entry) => entry.nextHopProtocol);
  return { open, ids: globalThis.ids, protocols: [...new Set(protocols.filter((name) => name))] };
}

await withPage(
  async (page) => {
    await page.goto(base + "/healthz");
    await page.evaluate(follow, Number(count));
    let over = false;
    standardInputEnds().then(() => (over = true));
    while (!over) {
      // While the broker is away there is nothing to say.
      const said = await page.evaluate(snapshot).catch(() => null);
      if (said) process.stdout.write(JSON.stringify(said) + "\n");
      await page.waitForTimeout(200);
    }
  },
  { ignoreHTTPSErrors: true },
);
process.exit(0);
