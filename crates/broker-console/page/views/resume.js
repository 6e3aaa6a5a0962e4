// Exact resume, to be tried: a stream that can be cut, and the ledger that says what that cost.

import { reading, request, segment } from "../api.js";
import { field, h, notice, setText, toast } from "../dom.js";
import { count } from "../format.js";
import { Ledger } from "../ledger.js";
import { every, statePill } from "../parts.js";
import { follow } from "../stream.js";

const OWN_TOPIC = "console.resume";
const BURST = 20;
const COMPARE_MS = 2000;
const STEPS_MAX = 60;

export function resume(page) {
  const pill = statePill();
  const trouble = h("div");
  const tiles = ["received", "missing", "twice", "reconnects", "gaps"].map((name) => ({
    name,
    value: h("dd", { id: `ledger-${name}` }, "0"),
  }));
  const verdict = h("p", { class: "verdict", role: "status" });
  const steps = h("ol", { class: "steps" });
  const pattern = h("input", { name: "pattern", value: "**", required: true, autocomplete: "off" });
  let [ledger, stream] = [null, null];
  let frame = 0;

  const note = (text) => {
    steps.prepend(h("li", {}, h("time", {}, new Date().toLocaleTimeString("en-GB")), h("span", {}, text)));
    while (steps.childElementCount > STEPS_MAX) steps.lastElementChild.remove();
  };
  const paint = () => {
    frame = 0;
    for (const { name, value } of tiles) setText(value, count(ledger[name]));
    for (const { name, value } of tiles.slice(1, 3))
      value.parentElement.dataset.good = String(ledger[name] === 0);
    setText(verdict, judged(ledger));
  };
  const repaint = () => (frame ||= requestAnimationFrame(paint));
  const begin = () => {
    stream?.stop();
    trouble.replaceChildren();
    ledger = new Ledger(pattern.value.trim());
    stream = observe(ledger, { note, repaint, pill, trouble });
    repaint();
  };
  const cut = () => {
    note(`You cut the connection after ${stream.lastId ?? "nothing"}`);
    stream.cut();
  };
  const close = () =>
    attempt(async () => {
      await request("DELETE", `/v1/connections/${segment(stream.connection ?? "")}`);
      note("The broker was told to close the stream");
    });
  const burst = () =>
    attempt(async () => {
      const events = Array.from({ length: BURST }, (_, n) => ({ topic: OWN_TOPIC, data: { n: n + 1 } }));
      await request("POST", "/v1/events", {
        body: JSON.stringify(events),
        headers: { "Content-Type": "application/json" },
      });
      note(`${BURST} events were published to ${OWN_TOPIC}`);
    });
  page.append(
    h(
      "header",
      { class: "head" },
      h(
        "div",
        {},
        h("h1", {}, "Exact resume"),
        h(
          "p",
          { class: "lead" },
          "Cut the stream as often as you like. What you received is compared with the log, event by event.",
        ),
      ),
      pill.element,
    ),
    trouble,
    h(
      "dl",
      { class: "tiles ledger" },
      tiles.map(({ name, value }) => h("div", {}, h("dt", {}, name), value)),
    ),
    verdict,
    h(
      "div",
      { class: "toolbar" },
      h("button", { type: "button", class: "danger", id: "cut", onclick: cut }, "Cut my connection"),
      h("button", { type: "button", onclick: close }, "Let the broker close it"),
      h("button", { type: "button", onclick: burst, title: `to ${OWN_TOPIC}` }, `Publish ${BURST} events`),
      h("button", { type: "button", onclick: () => cutAndPublish() }, "Cut, and publish meanwhile"),
    ),
    h(
      "form",
      {
        class: "controls",
        onsubmit: (event) => {
          event.preventDefault();
          begin();
        },
      },
      field("Topic or pattern", pattern),
      h("button", { type: "submit" }, "Begin anew"),
    ),
    h("section", { class: "card", "aria-label": "What happened" }, h("h2", {}, "What happened"), steps),
  );
  const cutAndPublish = () => {
    cut();
    return burst();
  };
  begin();
  const stopComparing = every(COMPARE_MS, async () => {
    await ledger.compare().catch(() => {});
    repaint();
  });
  return () => {
    stopComparing();
    stream.stop();
    cancelAnimationFrame(frame);
  };
}

async function attempt(work) {
  try {
    await work();
  } catch (problem) {
    toast(problem.message, "bad");
  }
}

/// Follows, and enters into the ledger what comes.
function observe(ledger, { note, repaint, pill, trouble }) {
  let before = 0;
  const [path, query] = reading(ledger.pattern, { from: "-20" });
  return follow(path, query, {
    events: (events) => {
      for (const { event, data, id } of events) {
        if (event === "$open") opened(JSON.parse(data));
        else if (event === "$gap") gap(JSON.parse(data));
        else if (event === "$live")
          note(`Caught up with the head: ${count(ledger.received - before)} received since`);
        else if (event === "$closing") note(`The broker ended the stream: ${JSON.parse(data).reason}`);
        else if (event !== "$cursor") ledger.take(id);
      }
      if (ledger.isOverfull) ledger.compare().catch(() => {});
      repaint();
    },
    state: (state, problem) => {
      pill.show(state);
      if (problem) trouble.replaceChildren(notice(problem));
    },
  });

  function opened({ from }) {
    if (ledger.comparedTo === null) {
      note(`Opened behind ${from}`);
    } else {
      ledger.reconnects += 1;
      note(`Back again behind ${from}`);
    }
    before = ledger.received;
    ledger.begin(from);
  }

  function gap({ reason, resumed_after }) {
    ledger.gaps += 1;
    note(`History is missing (${reason}), and the broker said so: on behind ${resumed_after}`);
  }
}

function judged({ received, compared, missing, twice, removed }) {
  if (received === 0) return "Nothing received yet: publish some events.";
  const gone = removed > 0 ? `, ${count(removed)} were removed from the log since` : "";
  if (missing === 0 && twice === 0)
    return `${count(compared)} compared with the log: every event once, in order${gone}.`;
  return `${count(compared)} compared with the log: ${count(missing)} missing, ${count(twice)} twice${gone}.`;
}
