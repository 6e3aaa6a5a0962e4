// The npm package `eventsource` under node. It reconnects by itself, with Last-Event-ID and the retry it was told.
// Usage: node eventsource.mjs URL TYPE...
// Prints one line of JSON for each event of the named types, until it is killed.
import { EventSource } from "eventsource";

const [url, ...types] = process.argv.slice(2);
const source = new EventSource(url);
for (const type of types) {
  source.addEventListener(type, (event) => {
    process.stdout.write(JSON.stringify({ id: event.lastEventId, type: event.type, data: event.data }) + "\n");
  });
}
source.onerror = (event) => {
  process.stderr.write(`eventsource: ${event.message ?? "connection lost"}\n`);
  // After a status other than 200 an EventSource never comes back: that is a failure, not a pause.
  if (source.readyState === EventSource.CLOSED) process.exit(1);
};
