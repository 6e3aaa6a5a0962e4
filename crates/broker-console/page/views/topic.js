// One topic, or all that a pattern names: live, or from any place of its history.

import { address, isPattern, reading } from "../api.js";
import { command, copyButton, empty, field, h, notice, setText, toast } from "../dom.js";
import { bytes, plural, quoted, rules } from "../format.js";
import { every, statePill } from "../parts.js";
import { purge, topicStats } from "../removal.js";
import { token } from "../session.js";
import { follow } from "../stream.js";
import { Tail } from "../tail.js";

const STARTS = [
  ["latest", "now on", null],
  ["last", "the last", "50"],
  ["earliest", "the oldest kept", null],
  ["id", "an id", ""],
  ["time", "a time", ""],
];
const COUNTS_MS = 2000;

export function topic(page, name) {
  if (!name) {
    location.replace("#/topics");
    return undefined;
  }
  const pattern = isPattern(name);
  const pill = statePill();
  const counts = h("p", { class: "lead" });
  const trouble = h("div");
  const tail = new Tail({ showsTopic: pattern, placeholder: placeholder(name, pattern) });
  const form = controls(() => begin());
  const pause = h("button", { type: "button", onclick: () => (stream ? end("paused") : begin()) }, "Pause");
  let stream;

  const query = () => ({ from: form.from(), type: form.types() });
  const curl = () => {
    const [path, parameters] = reading(name, query());
    const authorization = token() ? ' -H "Authorization: Bearer $PERENNIAL_TOKEN"' : "";
    return `curl -N${authorization} ${quoted(location.origin + address(path, parameters))}`;
  };
  function end(state) {
    stream?.stop();
    stream = undefined;
    pill.show(state);
    setText(pause, "Follow");
  }
  function begin() {
    stream?.stop();
    trouble.replaceChildren();
    tail.clear();
    tail.filter(form.wants());
    const [path, parameters] = reading(name, { ...query(), envelope: true });
    stream = follow(path, parameters, {
      events: (events) => take(events),
      state: (state, problem) => (state === "refused" ? refuse(problem) : pill.show(state)),
    });
    setText(pause, "Pause");
  }
  function refuse(problem) {
    end("refused");
    trouble.replaceChildren(notice(problem));
  }
  function take(events) {
    for (const { event, data } of events) {
      if (event === "$gap") toast(`History is missing here: ${JSON.parse(data).reason}`, "bad");
    }
    const published = events.filter(({ event }) => !event?.startsWith("$") || event === "$delete");
    if (published.length > 0) tail.take(published);
  }

  page.append(
    h(
      "nav",
      { class: "crumbs", "aria-label": "Path" },
      h("a", { href: "#/topics" }, "Topics"),
      h("span", { "aria-hidden": "true" }, "/"),
    ),
    h("header", { class: "head" }, h("div", {}, h("h1", { class: "name" }, name), counts), pill.element),
    trouble,
    form.element,
    h(
      "div",
      { class: "toolbar" },
      pause,
      copyButton(curl, "Copy as curl"),
      !pattern &&
        !name.startsWith("$") &&
        h("a", { class: "button", href: `#/publish/${encodeURIComponent(name)}` }, "Publish here"),
      !pattern &&
        !name.startsWith("$") &&
        h("button", { type: "button", onclick: () => purge(name, begin) }, "Purge"),
    ),
    tail.element,
  );
  begin();
  const stopCounting = pattern ? () => {} : every(COUNTS_MS, () => showCounts(name, counts));
  return () => {
    stopCounting();
    stream?.stop();
  };
}

function placeholder(name, pattern) {
  const example = pattern ? name.replaceAll("**", "example").replaceAll("*", "example") : name;
  if (name.startsWith("$")) return empty("No event yet", "The broker writes this topic itself.");
  return empty(
    "No event yet",
    "What is published from now on appears here. Older events are shown with another “from” above, or send one:",
    command(
      `curl -d '{"hello":"world"}' ${quoted(`${location.origin}/v1/topics/${encodeURIComponent(example)}/events`)}`,
    ),
  );
}

async function showCounts(name, counts) {
  const stats = await topicStats(name).catch(() => undefined);
  if (stats === undefined) return;
  const text = stats
    ? `${plural(stats.events, "event")}, ${bytes(stats.bytes)}, ${stats.policy ? `${rules(stats.policy)} (by ${stats.policy.pattern})` : "keeps everything"}`
    : "It never had an event";
  setText(counts, text);
}

/// Where to begin, and what to show.
function controls(begin) {
  const start = h(
    "select",
    { name: "from" },
    STARTS.map(([value, text]) => h("option", { value }, text)),
  );
  const value = h("input", {
    name: "from-value",
    autocomplete: "off",
    "aria-label": "Which one",
    hidden: true,
  });
  const types = h("input", { name: "type", autocomplete: "off", placeholder: "any" });
  const key = h("input", { name: "key", autocomplete: "off", placeholder: "any" });
  start.value = "last";
  const adapt = () => {
    const [name, , initial] = STARTS.find(([name]) => name === start.value);
    value.hidden = initial === null;
    value.type = { last: "number", time: "datetime-local" }[name] ?? "text";
    value.placeholder = { last: "50", id: "97-7f3a9c1e" }[name] ?? "";
    value.value = initial ?? "";
    if (name === "time") value.step = "1";
  };
  start.addEventListener("change", adapt);
  adapt();
  const from = () =>
    ({
      latest: () => "latest",
      earliest: () => "earliest",
      last: () => `-${Number(value.value) || 50}`,
      id: () => value.value.trim() || "earliest",
      time: () => (value.value ? new Date(value.value).toISOString() : "earliest"),
    })[start.value]();
  const element = h(
    "form",
    {
      class: "controls",
      "aria-label": "What to show",
      onsubmit: (event) => {
        event.preventDefault();
        begin();
      },
    },
    h(
      "div",
      { class: "field from" },
      h("label", { for: "from" }, "From"),
      h("div", { class: "joined" }, start, value),
    ),
    field("Types", types),
    field("Key", key),
    h("button", { type: "submit", class: "primary" }, "Show"),
  );
  start.id = "from";
  return {
    element,
    from,
    types: () => types.value.split(/[\s,]+/).filter(Boolean),
    wants: () => {
      const wanted = key.value.trim();
      return wanted ? (envelope) => envelope.key === wanted : null;
    },
  };
}
