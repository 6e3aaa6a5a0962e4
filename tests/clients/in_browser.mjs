// Two clients inside Chromium: the browser's own EventSource, and npm's @microsoft/fetch-event-source.
// The page is served from another loopback port than the broker's, so every request crosses origins.
// Usage: node in_browser.mjs native|fetch URL TYPE...
// Prints one line of JSON for each event of the named types, until its standard input ends.
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { standardInputEnds, withPage } from "./chromium.mjs";

const [kind, url, ...types] = process.argv.slice(2);
const library = new URL("node_modules/@microsoft/fetch-event-source/lib/esm/", import.meta.url);

// Serves an empty page and the library's modules, which import each other without an extension.
const server = createServer((request, response) => {
  const module = /^\/lib\/(index|fetch|parse)(\.js)?$/.exec(request.url);
  if (module) {
    response.setHeader("content-type", "text/javascript");
    response.end(readFileSync(new URL(`${module[1]}.js`, library)));
  } else {
    response.setHeader("content-type", "text/html");
    response.end("<!doctype html><title>client</title>");
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

function followNatively({ url, types }) {
  const source = new EventSource(url);
  for (const type of types) {
    source.addEventListener(type, (event) => report({ id: event.lastEventId, type: event.type, data: event.data }));
  }
  source.onerror = () => {
    if (source.readyState === EventSource.CLOSED) console.error("the EventSource is closed for good");
  };
}

async function followWithFetch({ url, types }) {
  const { fetchEventSource } = await import("/lib/index.js");
  const wanted = new Set(types);
  fetchEventSource(url, {
    openWhenHidden: true,
    onmessage({ id, event, data }) {
      const type = event || "message";
      if (wanted.has(type)) report({ id, type, data });
    },
    // The library stops at a clean end of the body unless this throws, as its documentation says.
    onclose() {
      throw new Error("the stream ended");
    },
  });
}

await withPage(async (page) => {
  await page.exposeFunction("report", (event) => {
    process.stdout.write(JSON.stringify(event) + "\n");
  });
  await page.goto(`http://127.0.0.1:${server.address().port}/`);
  await page.evaluate(kind === "native" ? followNatively : followWithFetch, { url, types });
  await standardInputEnds();
});
server.close();
process.exit(0);
