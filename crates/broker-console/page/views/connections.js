// The event streams that are open: who reads what, how far each is, and how to close one.

import { get, request, segment } from "../api.js";
import { command, empty, h, notice, setText, toast } from "../dom.js";
import { count, duration, plural } from "../format.js";
import { every, renew, row, rowButton, table } from "../parts.js";

const REFRESH_MS = 2000;
const ROWS_MAX = 300;
const COLUMNS = [
  ["Subject"],
  ["From"],
  ["Patterns"],
  ["Cursor", "late"],
  ["Lag", "number"],
  ["Open for", "number"],
  ["", "acts"],
];

export function connections(page) {
  const told = h("p", { class: "lead", role: "status" });
  const list = h("div");
  const trouble = h("div");
  const refresh = async () => {
    try {
      const { connections } = await get("/v1/connections");
      setText(told, plural(connections.length, "open stream"));
      trouble.replaceChildren();
      renew(list, listing(connections, close));
    } catch (problem) {
      trouble.replaceChildren(notice(problem));
    }
  };
  async function close(id) {
    try {
      await request("DELETE", `/v1/connections/${segment(id)}`);
      toast("The stream is closed. Its client may come back, and misses nothing.");
    } catch (problem) {
      toast(problem.message, "bad");
    }
    refresh();
  }
  page.append(
    h("header", { class: "head" }, h("div", {}, h("h1", {}, "Connections"), told)),
    trouble,
    list,
    h(
      "p",
      { class: "hint" },
      "Lag is how many events of the whole log lie after the cursor. A reader that wants few of them moves its cursor with each heartbeat.",
    ),
  );
  return every(REFRESH_MS, refresh);
}

function listing(all, close) {
  if (all.length === 0) {
    return empty(
      "Nobody reads now",
      "Open a stream, and it is listed here:",
      command(`curl -N '${location.origin}/v1/events?topic=**'`),
    );
  }
  const more = all.length - ROWS_MAX;
  return h(
    "div",
    { class: "card" },
    table(
      "Open event streams",
      COLUMNS,
      all.slice(0, ROWS_MAX).map((connection) => connectionRow(connection, close)),
    ),
    more > 0 && h("p", { class: "hint" }, `showing the oldest ${ROWS_MAX} of ${count(all.length)}`),
  );
}

function connectionRow({ id, remote, subject, patterns, cursor, lag, since }, close) {
  const shown = patterns.slice(0, 4);
  const others = patterns.length - shown.length;
  return row(COLUMNS, id, [
    subject ?? h("span", { class: "soft" }, "no token"),
    h("code", {}, remote ?? "unknown"),
    h(
      "span",
      { class: "badges" },
      shown.map((pattern) => h("span", { class: "badge" }, pattern)),
      others > 0 && `and ${others} more`,
    ),
    h("code", {}, cursor),
    count(lag),
    duration((Date.now() - Date.parse(since)) / 1000),
    rowButton("Close", `Close the stream of ${patterns.join(", ")}`, () => close(id)),
  ]);
}
