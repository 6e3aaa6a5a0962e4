// All topics with what they hold, and the policies that say how much that may be.

import { get, isPattern } from "../api.js";
import { command, empty, h, notice, setText } from "../dom.js";
import { bytes, count, plural, rules } from "../format.js";
import { every, renew, row, rowButton, table } from "../parts.js";
import { editPolicy, removePolicy } from "../policy.js";
import { purge } from "../removal.js";

const ROWS_MAX = 300;
const REFRESH_MS = 5000;
const COLUMNS = [
  ["Topic"],
  ["Events", "number"],
  ["Bytes", "number"],
  ["Policy"],
  ["Last id", "late"],
  ["", "acts"],
];
const POLICY_COLUMNS = [["Pattern"], ["Keeps"], ["Governs", "number"], ["", "acts"]];

export function topics(page) {
  const search = h("input", {
    type: "search",
    placeholder: "Find, or follow a pattern such as stocks.**",
    "aria-label": "Find a topic, or follow a pattern",
  });
  const own = h("input", { type: "checkbox", id: "own" });
  const told = h("p", { class: "lead", role: "status" });
  const list = h("div", { id: "topic-list" });
  const policies = h("div", { id: "policy-list" });
  const trouble = h("div");
  let known = [];

  const show = () => renew(list, listing(known, search.value.trim(), refresh));
  const refresh = async () => {
    try {
      const [all, reserved, held] = await Promise.all([
        get("/v1/topics"),
        own.checked ? get("/v1/topics", { pattern: "$broker.**" }) : { topics: [] },
        get("/v1/policies").catch(forbidden),
      ]);
      known = [...all.topics, ...reserved.topics];
      setText(
        told,
        `${plural(known.length, "topic")}, ${plural(sum(known, "events"), "event")}, ${bytes(sum(known, "bytes"))}`,
      );
      trouble.replaceChildren();
      show();
      renew(policies, policyList(held, known, refresh));
    } catch (problem) {
      trouble.replaceChildren(notice(problem));
    }
  };
  search.addEventListener("input", show);
  own.addEventListener("change", refresh);
  const toolbar = h(
    "form",
    {
      class: "toolbar",
      onsubmit: (event) => {
        event.preventDefault();
        const text = search.value.trim();
        if (text) location.hash = `#/topic/${encodeURIComponent(text)}`;
      },
    },
    search,
    h("label", { class: "check", for: "own" }, own, "the broker's own"),
    h("button", { type: "submit" }, "Follow"),
  );
  page.append(
    h("header", { class: "head" }, h("div", {}, h("h1", {}, "Topics"), told)),
    trouble,
    toolbar,
    list,
    h(
      "header",
      { class: "head below" },
      h(
        "div",
        {},
        h("h2", {}, "Policies"),
        h("p", { class: "lead" }, "How much of each topic is kept. The most specific pattern governs."),
      ),
      h("button", { type: "button", onclick: () => editPolicy(null, refresh) }, "New policy"),
    ),
    policies,
  );
  return every(REFRESH_MS, refresh);
}

const sum = (all, name) => all.reduce((total, one) => total + one[name], 0);

function forbidden(problem) {
  if (problem.status === 403) return { forbidden: problem };
  throw problem;
}

function listing(known, wanted, refresh) {
  if (known.length === 0) {
    return empty(
      "There is no topic yet",
      "A topic is there once something is published to it:",
      command(`curl -d 'hello' '${location.origin}/v1/topics/greetings/events'`),
    );
  }
  const found = known.filter(({ topic }) => topic.includes(wanted));
  if (found.length === 0) {
    const more = isPattern(wanted)
      ? "Press Enter to follow this pattern."
      : "Press Enter to follow it: what is published to it will be shown.";
    return empty(`No topic is named like “${wanted}”`, more);
  }
  const more = found.length - ROWS_MAX;
  return h(
    "div",
    { class: "card" },
    table(
      "Topics",
      COLUMNS,
      found.slice(0, ROWS_MAX).map((stats) => topicRow(stats, refresh)),
    ),
    more > 0 &&
      h(
        "p",
        { class: "hint" },
        `showing ${ROWS_MAX} of ${count(found.length)}; write a part of a name to find others`,
      ),
  );
}

function topicRow({ topic, events, bytes: size, policy, last_id }, refresh) {
  const isOwn = topic.startsWith("$");
  return row(COLUMNS, topic, [
    h("a", { href: `#/topic/${encodeURIComponent(topic)}` }, topic),
    count(events),
    bytes(size),
    policy
      ? h("span", { class: "badge", title: `by ${policy.pattern}` }, rules(policy))
      : h("span", { class: "soft" }, "keeps everything"),
    h("code", {}, last_id),
    !isOwn && rowButton("Purge", `Purge ${topic}`, () => purge(topic, refresh)),
  ]);
}

function policyList({ policies, forbidden }, known, refresh) {
  if (forbidden) return notice(forbidden);
  if (policies.length === 0) {
    return empty(
      "Everything is kept",
      "Without a policy no event ever goes. A policy for ** holds for every topic.",
    );
  }
  const governed = (pattern) => known.filter(({ policy }) => policy?.pattern === pattern).length;
  const rows = policies.map((policy) =>
    row(POLICY_COLUMNS, policy.pattern, [
      h("a", { href: `#/topic/${encodeURIComponent(policy.pattern)}` }, policy.pattern),
      rules(policy),
      plural(governed(policy.pattern), "topic"),
      [
        rowButton("Edit", `Edit the policy of ${policy.pattern}`, () => editPolicy(policy, refresh)),
        rowButton("Remove", `Remove the policy of ${policy.pattern}`, () => removePolicy(policy, refresh)),
      ],
    ]),
  );
  return h("div", { class: "card" }, table("Policies", POLICY_COLUMNS, rows));
}
