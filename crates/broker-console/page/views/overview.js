// How the broker does: the newest numbers, and charts of the last minutes, from the broker's own `$broker.stats`.

import { get, topicPath } from "../api.js";
import { Chart } from "../charts.js";
import { command, empty, h, notice, setText } from "../dom.js";
import { bytes, duration, rate, short } from "../format.js";
import { statePill } from "../parts.js";
import { token } from "../session.js";
import { follow, followNatively } from "../stream.js";

const TOPIC = "$broker.stats";
const POINTS_MAX = 600;
/// A longer time without statistics is a gap in the lines.
const GAP_SECONDS = 5;

const TILES = [
  ["Events", "events_per_second", (n) => `${rate(n)}/s`],
  ["Deliveries", "deliveries_per_second", (n) => `${rate(n)}/s`],
  ["Streams", "streams", short],
  ["Furthest behind", "lag", (n) => (n === 0 ? "none" : short(n))],
  ["Events kept", "events", short],
  ["On disk", "bytes_on_disk", bytes],
];

export function overview(page) {
  const pill = statePill();
  const about = h("p", { class: "lead" });
  const tiles = TILES.map(([name, key, show]) => ({ key, show, value: h("dd", {}, "–"), name }));
  const charts = makeCharts();
  const trouble = h("div");
  const hint = h("div");
  page.append(
    h("header", { class: "head" }, h("div", {}, h("h1", {}, "Overview"), about), pill.element),
    trouble,
    h(
      "dl",
      { class: "tiles" },
      tiles.map(({ name, value }) => h("div", {}, h("dt", {}, name), value)),
    ),
    hint,
    h(
      "div",
      { class: "charts" },
      charts.map(({ chart }) => chart.element),
    ),
  );

  let points = [];
  let frame = 0;
  const paint = () => {
    frame = 0;
    const newest = points.findLast((point) => point.stats);
    if (!newest) return;
    for (const { key, show, value } of tiles) setText(value, show(newest.stats[key]));
    setText(about, `Up for ${duration(newest.stats.uptime)}, head ${newest.stats.head}`);
    for (const { chart, keys } of charts) chart.update(lines(points, keys));
    showHint(hint, newest.stats);
  };
  const stream = watch({
    events: (events) => {
      points = [...points, ...events.flatMap((event) => pointsOf(event, points.at(-1)))].slice(-POINTS_MAX);
      frame ||= requestAnimationFrame(paint);
    },
    state: (state, problem) => {
      pill.show(state);
      trouble.replaceChildren(problem ? notice(problem) : "");
    },
  });
  showStatus(tiles, about, hint);

  return () => {
    stream.stop();
    cancelAnimationFrame(frame);
    charts.forEach(({ chart }) => chart.destroy());
  };
}

function watch(on) {
  const path = `${topicPath(TOPIC)}/events`;
  const query = { from: `-${POINTS_MAX}`, envelope: true };
  return token() ? follow(path, query, on) : followNatively(path, query, ["stats"], on);
}

function makeCharts() {
  const perSecond = (n) => rate(n);
  const bytesPerSecond = (n) => `${bytes(n)}`;
  return [
    {
      keys: ["events_per_second"],
      chart: new Chart(
        "Events published",
        [{ name: "per second", colour: "blue", show: perSecond }],
        "Events published per second over the last minutes",
      ),
    },
    {
      keys: ["deliveries_per_second"],
      chart: new Chart(
        "Events delivered",
        [{ name: "per second, to all streams", colour: "green", show: perSecond }],
        "Events delivered per second over the last minutes",
      ),
    },
    {
      keys: ["delivered_bytes_per_second", "bytes_per_second"],
      chart: new Chart(
        "Bytes a second",
        [
          { name: "out", colour: "green", show: bytesPerSecond },
          { name: "in", colour: "blue", show: bytesPerSecond },
        ],
        "Bytes published and delivered per second over the last minutes",
      ),
    },
    {
      keys: ["lag", "streams_behind"],
      chart: new Chart(
        "Behind",
        [
          { name: "events, furthest", colour: "amber", show: short },
          { name: "streams", colour: "violet", show: short },
        ],
        "How many events the furthest stream is behind, and how many streams are",
      ),
    },
  ];
}

/// The point of one event, after a break if it comes long after the last one.
function pointsOf({ event, data }, last) {
  if (event !== "stats") return [];
  const { time, data: stats } = JSON.parse(data);
  const second = Date.parse(time) / 1000;
  const isBroken = last && second - last.second > GAP_SECONDS;
  return [...(isBroken ? [{ second: last.second + 1, stats: null }] : []), { second, stats }];
}

function lines(points, keys) {
  return [
    points.map(({ second }) => second),
    ...keys.map((key) => points.map(({ stats }) => stats?.[key] ?? null)),
  ];
}

/// What is known at once, before the first statistics come.
async function showStatus(tiles, about, hint) {
  const status = await get("/v1/status").catch(() => null);
  if (!status) return;
  setText(about, `Version ${status.version}, up for ${duration(status.uptime)}, head ${status.head}`);
  const known = { streams: status.connections, events: status.events, bytes_on_disk: status.bytes_on_disk };
  for (const { key, show, value } of tiles) if (key in known) setText(value, show(known[key]));
  showHint(hint, status);
}

function showHint(hint, { events }) {
  const isEmpty = events === 0;
  if (isEmpty === Boolean(hint.firstChild)) return;
  hint.replaceChildren(
    ...(isEmpty
      ? [
          empty(
            "Nothing is published yet",
            "Send the first event, and watch it arrive:",
            command(`curl -d 'hello' '${location.origin}/v1/topics/greetings/events'`),
          ),
        ]
      : []),
  );
}
