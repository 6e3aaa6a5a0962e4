// What removes events asks first how many: the dry run of the broker, shown before the button that does it.

import { get, request, topicPath } from "./api.js";
import { buttons, open } from "./dialog.js";
import { h, notice, toast } from "./dom.js";
import { bytes, plural } from "./format.js";

/// Asks whether a topic is to be purged, naming what would go, and does it.
export async function purge(topic, done) {
  let dryRun;
  try {
    dryRun = await request("DELETE", topicPath(topic), { query: { dry_run: true } });
  } catch (problem) {
    toast(problem.message, "bad");
    return;
  }
  const events = plural(dryRun.events, "event");
  open(`Purge ${topic}?`, (close) => {
    const trouble = h("div");
    const confirm = h(
      "button",
      {
        type: "button",
        class: "danger",
        "data-act": "purge",
        onclick: () => carryOut(confirm, trouble, close),
      },
      `Purge ${events}`,
    );
    return [
      h(
        "p",
        {},
        h("strong", {}, events),
        ` of ${bytes(dryRun.bytes)} go for good. Readers that had not got to them are told of a gap. The topic stays, with its last id.`,
      ),
      trouble,
      buttons(close, confirm),
    ];
  });

  async function carryOut(confirm, trouble, close) {
    confirm.disabled = true;
    try {
      const { purged } = await request("DELETE", topicPath(topic));
      close();
      toast(`${plural(purged.events, "event")} of ${topic} purged`);
      done();
    } catch (problem) {
      confirm.disabled = false;
      trouble.replaceChildren(notice(problem));
    }
  }
}

/// The topic as it is now, or nothing if it never had an event.
export async function topicStats(topic) {
  try {
    return await get(topicPath(topic));
  } catch (problem) {
    if (problem.status === 404) return null;
    throw problem;
  }
}
