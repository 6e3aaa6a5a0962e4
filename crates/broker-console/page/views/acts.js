// Acts of administration: policies, purges, revocations. Each is an event on a topic of the broker's own.

import { get } from "../api.js";
import { command, empty, h, notice } from "../dom.js";
import { bytes, plural, pretty, rules, time } from "../format.js";
import { statePill } from "../parts.js";
import { follow } from "../stream.js";

const ACTS_MAX = 500;
const STATS = "$broker.stats";
/// Those that the broker has from the start; others are found in the list of topics.
const KNOWN = ["$broker.policies", "$broker.purges", "$broker.revocations"];

export function acts(page) {
  const pill = statePill();
  const trouble = h("div");
  const list = h("ol", { class: "timeline" });
  const nothing = empty(
    "Nobody has administered this broker yet",
    "Policies, purges and revocations will be listed here. Set a first policy:",
    command(`curl -X PUT -d '{"max_age":"7d"}' '${location.origin}/v1/policies/greetings'`),
  );
  page.append(
    h(
      "header",
      { class: "head" },
      h(
        "div",
        {},
        h("h1", {}, "Acts of administration"),
        h("p", { class: "lead" }, "The broker's state is what its log says, and this is that part of it."),
      ),
      pill.element,
    ),
    trouble,
    nothing,
    list,
  );
  let stream;
  let left = false;
  topicsOfActs().then((topics) => {
    if (left) return;
    stream = follow(
      "/v1/events",
      { topic: topics, from: `-${ACTS_MAX}`, envelope: true },
      {
        events: (events) => {
          const told = events
            .filter(({ event }) => !event?.startsWith("$") || event === "$delete")
            .map(({ data }) => JSON.parse(data));
          nothing.hidden ||= told.length > 0;
          for (const act of told) list.prepend(entry(act));
          while (list.childElementCount > ACTS_MAX) list.lastElementChild.remove();
        },
        state: (state, problem) => {
          pill.show(state);
          trouble.replaceChildren(problem ? notice(problem) : "");
        },
      },
    );
  });
  return () => {
    left = true;
    stream?.stop();
  };
}

/// Statistics are no act, and to follow them by their name would make the broker tell them.
async function topicsOfActs() {
  const { topics } = await get("/v1/topics", { pattern: "$broker.**" }).catch(() => ({ topics: [] }));
  return [...new Set([...KNOWN, ...topics.map(({ topic }) => topic)])].filter((topic) => topic !== STATS);
}

function entry(act) {
  const { kind, text } = said(act);
  return h(
    "li",
    { class: kind },
    h(
      "div",
      { class: "what" },
      h("p", {}, ...text),
      h("p", { class: "soft" }, h("time", {}, time(act.time)), " · ", h("code", {}, act.id)),
    ),
    h("details", {}, h("summary", {}, "As it was written"), h("pre", { tabindex: "0" }, pretty(act.data))),
  );
}

/// What an act was, in words.
function said({ topic, type, key, data }) {
  const name = h("strong", {}, key ?? "");
  if (topic === "$broker.policies" && type === "$delete")
    return { kind: "removed", text: ["Policy of ", name, " removed"] };
  if (topic === "$broker.policies")
    return { kind: "policy", text: ["Policy of ", name, ` set: ${rules(data)}`] };
  if (topic === "$broker.purges")
    return {
      kind: "removed",
      text: [name, ` purged: ${plural(data.events, "event")}, ${bytes(data.bytes)}`],
    };
  if (topic === "$broker.revocations") return { kind: "removed", text: ["Tokens revoked: ", name] };
  return { kind: "policy", text: [`${topic}: ${type} `, name] };
}
