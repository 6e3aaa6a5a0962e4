// npm: better-sse. The library keeps no history and leaves it to the application, so this script does, in memory: one array of
// all events, replayed after `session.lastId`. Replay and registration are one step of the event loop, so that nothing can be
// published between them.
import { createServer } from "node:http";
import { createChannel, createSession } from "better-sse";

const channels = new Map();
const history = [];
const places = new Map();
const limit = 50;

function channel(topic) {
  if (!channels.has(topic)) channels.set(topic, createChannel());
  return channels.get(topic);
}

function publish(topic, data) {
  const event = { id: String(history.length + 1), topic, data };
  places.set(event.id, history.length);
  history.push(event);
  if (topic.startsWith("limited-")) {
    const kept = history.filter((other) => other?.topic === topic);
    for (const old of kept.slice(0, -limit)) history[places.get(old.id)] = undefined;
  }
  channel(topic).broadcast(data, "message", { eventId: event.id });
}

createServer(async (req, res) => {
  const url = new URL(req.url, "http://localhost");
  if (req.method === "POST") {
    let body = "";
    req.setEncoding("utf8");
    for await (const part of req) body += part;
    publish(url.pathname.split("/")[2], body);
    res.writeHead(204).end();
  } else if (url.pathname === "/events") {
    const session = await createSession(req, res, { trustClientEventId: true });
    const topics = url.searchParams.getAll("topic");
    let from = history.length;
    if (session.lastId !== "") from = places.has(session.lastId) ? places.get(session.lastId) + 1 : from;
    else if (url.searchParams.has("earliest")) from = 0;
    for (let i = from; i < history.length; i++) {
      const event = history[i];
      if (event && topics.includes(event.topic)) session.push(event.data, "message", event.id);
    }
    for (const topic of topics) channel(topic).register(session);
  } else {
    res.writeHead(200).end();
  }
}).listen(Number(process.env.PORT), "127.0.0.1");
