// npm: mercure, a Mercure hub for Node with a history in memory. As published, 0.1.0 answers every subscriber 401, since its
// handler of connections has lost its `this`, and every publisher over HTTP too, since it reads the claims in the wrong place.
// So the handler is bound here, and publishing goes through the hub's own `dispatchUpdate`, as an application would do it.
import { createServer } from "node:http";
import mercure from "mercure";

const server = createServer(async (req, res) => {
  if (req.method !== "POST") return res.writeHead(200).end();
  let body = "";
  req.setEncoding("utf8");
  for await (const part of req) body += part;
  const id = await hub.dispatchUpdate([req.url.split("/")[2]], body);
  res.writeHead(200).end(id);
});
const hub = new mercure.Hub(server, { jwtKey: "conformance", path: "/hub", allowAnonymous: true });
hub.onSseConnection = hub.onSseConnection.bind(hub);
await hub.listen(Number(process.env.PORT), "127.0.0.1");
