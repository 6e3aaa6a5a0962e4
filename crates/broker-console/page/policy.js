// Editing a policy: what it would remove now is asked first, and shown; only then can it be set.

import { policyPath, request } from "./api.js";
import { buttons, open } from "./dialog.js";
import { field, h, notice, toast } from "./dom.js";
import { bytes, plural, rules } from "./format.js";

const FIELDS = [
  ["max_age", "Longest age", "a time such as 90m, 7d or 4w"],
  ["max_events", "Most events", "of each topic, such as 100000"],
  ["max_bytes", "Most bytes", "of each topic, such as 512MiB or 1GiB"],
];

/// Opens the form of a policy, a new one if there is none.
export function editPolicy(policy, done) {
  open(policy ? `Policy of ${policy.pattern}` : "New policy", (close) =>
    policyForm(policy ?? {}, close, done),
  );
}

function policyForm(policy, close, done) {
  const pattern = h("input", {
    name: "pattern",
    required: true,
    value: policy.pattern ?? "",
    readonly: Boolean(policy.pattern),
    placeholder: "stocks.**",
  });
  const inputs = FIELDS.map(([name]) =>
    h("input", { name, value: policy[name] === undefined ? "" : String(policy[name]), autocomplete: "off" }),
  );
  const compact = h("input", {
    type: "checkbox",
    name: "compact",
    id: "policy-compact",
    checked: policy.compact === "key",
  });
  const outcome = h("div", { class: "outcome", role: "status" });
  const apply = h(
    "button",
    { type: "button", class: "primary", disabled: true, onclick: () => carryOut() },
    "Set policy",
  );
  const stated = () => {
    const entries = FIELDS.map(([name], n) => [name, inputs[n].value.trim()]).filter(
      ([, value]) => value !== "",
    );
    const numbers = entries.map(([name, value]) => [
      name,
      /^\d+$/.test(value) && name !== "max_age" ? Number(value) : value,
    ]);
    return JSON.stringify({ ...Object.fromEntries(numbers), ...(compact.checked && { compact: "key" }) });
  };
  const send = (query) => request("PUT", policyPath(pattern.value.trim()), { query, body: stated() });
  const attempt = async (work) => {
    try {
      await work();
    } catch (problem) {
      outcome.replaceChildren(notice(problem));
      const wrong = inputs.find((input) => input.name === problem.field);
      (wrong ?? pattern).focus();
    }
  };
  const tryIt = (event) => {
    event.preventDefault();
    return attempt(async () => {
      const dryRun = await send({ dry_run: true });
      outcome.replaceChildren(told(dryRun));
      apply.disabled = false;
      apply.focus();
    });
  };
  const carryOut = () =>
    attempt(async () => {
      const set = await send();
      close();
      toast(`${set.pattern} now keeps ${rules(set)}`);
      done();
    });
  // What was told is of what was written then.
  const outdated = () => {
    apply.disabled = true;
    outcome.replaceChildren();
  };
  return h(
    "form",
    { onsubmit: tryIt, oninput: outdated },
    field("Pattern", pattern, "* is one segment, a last ** one or more"),
    h(
      "div",
      { class: "row" },
      FIELDS.map(([, label, hint], n) => field(label, inputs[n], hint)),
    ),
    h("label", { class: "check", for: "policy-compact" }, compact, "Keep only the newest event of each key"),
    outcome,
    buttons(close, h("button", { type: "submit" }, "See what goes"), apply),
  );
}

function told({ events, bytes: size }) {
  const text = events === 0 ? "Nothing would go now." : ` of ${bytes(size)} would go now.`;
  return h(
    "p",
    { class: events === 0 ? "notice good" : "notice warn" },
    events > 0 && h("strong", {}, plural(events, "event")),
    text,
  );
}

/// Asks whether a policy is to be removed, naming what would go by the one that governs then.
export async function removePolicy({ pattern }, done) {
  let dryRun;
  try {
    dryRun = await request("DELETE", policyPath(pattern), { query: { dry_run: true } });
  } catch (problem) {
    toast(problem.message, "bad");
    return;
  }
  open(`Remove the policy of ${pattern}?`, (close) => {
    const trouble = h("div");
    const carryOut = async () => {
      try {
        await request("DELETE", policyPath(pattern));
        close();
        toast(`The policy of ${pattern} is gone`);
        done();
      } catch (problem) {
        trouble.replaceChildren(notice(problem));
      }
    };
    return [
      h("p", {}, "A less specific policy governs its topics then, or none, which keeps everything."),
      told(dryRun),
      trouble,
      buttons(close, h("button", { type: "button", class: "danger", onclick: carryOut }, "Remove policy")),
    ];
  });
}
