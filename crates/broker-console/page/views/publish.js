// Publishing one event, with all that it may carry.

import { address, get, request, topicPath } from "../api.js";
import { command, copyButton, field, h, notice } from "../dom.js";
import { quoted } from "../format.js";
import { token } from "../session.js";

const OPTIONAL = [
  ["type", "Type", "the name of the event for EventSource; message if empty"],
  ["key", "Key", "what it is the newest state of, for compaction"],
  ["origin", "Origin", "who publishes, so that a reader can leave out its own"],
  ["idempotency_key", "Idempotency key", "a retry with the same one publishes once"],
];
/// The header of a key, which is no parameter.
const KEY_HEADER = "Idempotency-Key";

export function publish(page, name) {
  const topic = h("input", {
    name: "topic",
    required: true,
    value: name ?? "",
    list: "known-topics",
    autocomplete: "off",
    placeholder: "greetings",
  });
  const known = h("datalist", { id: "known-topics" });
  const inputs = Object.fromEntries(
    OPTIONAL.map(([name]) => [name, h("input", { name, autocomplete: "off" })]),
  );
  const data = h("textarea", { name: "data", rows: "9", spellcheck: "false" });
  data.value = '{"hello":"world"}';
  const outcome = h("div", { role: "status" });
  const send = h("button", { type: "submit", class: "primary" }, "Publish");

  const path = () => `${topicPath(topic.value.trim())}/events`;
  const query = () => ({ type: inputs.type.value, key: inputs.key.value, origin: inputs.origin.value });
  const headers = () => (inputs.idempotency_key.value ? { [KEY_HEADER]: inputs.idempotency_key.value } : {});
  const curl = () => {
    const words = ["curl"];
    if (token()) words.push('-H "Authorization: Bearer $PERENNIAL_TOKEN"');
    for (const [header, value] of Object.entries(headers()))
      words.push(`-H ${quoted(`${header}: ${value}`)}`);
    words.push("--data-raw", quoted(data.value), quoted(location.origin + address(path(), query())));
    return words.join(" ");
  };
  const submit = async (event) => {
    event.preventDefault();
    send.disabled = true;
    try {
      const answer = await request("POST", path(), { query: query(), headers: headers(), body: data.value });
      outcome.replaceChildren(told(answer));
    } catch (problem) {
      outcome.replaceChildren(notice(problem));
      [topic, ...Object.values(inputs), data].find((input) => input.name === problem.field)?.focus();
    } finally {
      send.disabled = false;
    }
  };
  page.append(
    h(
      "header",
      { class: "head" },
      h(
        "div",
        {},
        h("h1", {}, "Publish"),
        h("p", { class: "lead" }, "One event. It is answered once it would survive a power cut."),
      ),
    ),
    h(
      "form",
      { class: "card form", onsubmit: submit },
      field("Topic", topic, "segments with dots between them, such as stocks.ibm"),
      known,
      field("Data", data, "any text; JSON is shown as such"),
      h(
        "div",
        { class: "row" },
        OPTIONAL.map(([name, label, hint]) => field(label, inputs[name], hint)),
      ),
      h("div", { class: "buttons" }, copyButton(curl, "Copy as curl"), send),
    ),
    outcome,
    h("h2", { class: "below" }, "From a program"),
    command(`curl -d '{"hello":"world"}' '${location.origin}/v1/topics/greetings/events'`),
  );
  get("/v1/topics")
    .then(({ topics }) =>
      known.append(...topics.slice(0, 500).map(({ topic }) => h("option", { value: topic }))),
    )
    .catch(() => {});
}

function told({ id, topic, duplicate }) {
  const link = h("a", { href: `#/topic/${encodeURIComponent(topic)}` }, topic);
  const text = duplicate
    ? " was there already: the first answer counts. It is on "
    : " is durable. It is on ";
  return h("p", { class: "notice good" }, h("code", {}, id), text, link, ".");
}
