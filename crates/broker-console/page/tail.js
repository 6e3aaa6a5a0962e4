// The live tail: a list of the newest events that stays readable, and the page smooth, however many come.
//
// Events are taken as they come and counted. A few times a second some of them become rows: all of them as long as a person
// could follow; beyond that they are picked evenly, and the list says so. Only what becomes a row is looked into.

import { h, setText } from "./dom.js";
import { count, pretty, time } from "./format.js";

const ROWS_MAX = 200;
/// A burst of as many rows as are kept is shown wholly; over time it is so many a second.
const ROWS_PER_SECOND = 100;
const PAINT_MS = 120;
/// Beyond this many that wait to be shown, one in two is let go, again and again: those that are kept stay even.
const WAITING_MAX = 4096;

export class Tail {
  /// `filter` says of an envelope whether it is shown; `showsTopic` whether rows name their topic.
  constructor({ showsTopic = false, placeholder }) {
    this.showsTopic = showsTopic;
    this.wants = () => true;
    this.rows = h("ol", { class: "tail", "aria-label": "Newest events first" });
    this.told = h("p", { class: "told" });
    this.placeholder = placeholder;
    this.element = h("div", { class: "card" }, this.told, this.placeholder, this.rows);
    this.clear();
  }

  clear() {
    Object.assign(this, {
      received: 0,
      matching: 0,
      waiting: [],
      newest: null,
      stride: 1,
      skipped: 0,
      room: ROWS_MAX,
      lastPaint: 0,
      oneOf: 2,
      rowsSinceAll: ROWS_MAX,
    });
    this.rows.replaceChildren();
    this.tell();
  }

  /// Takes events as a stream gives them: envelopes in JSON.
  take(events) {
    this.received += events.length;
    for (const event of events) this.hold(event);
    this.frame ||= requestAnimationFrame((now) => this.paint(now));
  }

  /// Keeps every event that its turn comes to; the filter of keys, which looks into each, goes first.
  hold({ data }) {
    let envelope = null;
    if (this.looksInside) {
      envelope = JSON.parse(data);
      if (!this.wants(envelope)) return;
    }
    this.matching += 1;
    this.newest = envelope ?? data;
    this.skipped += 1;
    if (this.skipped < this.stride) return;
    this.skipped = 0;
    this.waiting.push(this.newest);
    if (this.waiting.length > WAITING_MAX) {
      this.waiting = this.waiting.filter((_, n) => n % 2 === 1);
      this.stride *= 2;
    }
  }

  filter(wants) {
    this.looksInside = Boolean(wants);
    this.wants = wants ?? (() => true);
  }

  paint(now) {
    this.frame = 0;
    if (this.newest === null) return this.tell();
    if (now - this.lastPaint < PAINT_MS) {
      this.frame = requestAnimationFrame((later) => this.paint(later));
      return;
    }
    this.room = Math.min(ROWS_MAX, this.room + ((now - this.lastPaint) * ROWS_PER_SECOND) / 1000);
    this.lastPaint = now;
    const picked = this.pick(Math.max(1, Math.floor(this.room)));
    this.room -= picked.length;
    this.rows.prepend(...picked.map((envelope) => this.row(envelope)));
    this.dropOld();
    this.tell();
  }

  /// Takes at most so many of those that wait, evenly, the newest first.
  pick(most) {
    const { waiting, newest, stride } = this;
    if (waiting.at(-1) !== newest) waiting.push(newest);
    Object.assign(this, { waiting: [], newest: null, stride: 1 });
    const step = Math.max(1, waiting.length / most);
    const picked = [];
    for (let at = waiting.length - 1; at > -0.5 && picked.length < most; at -= step) {
      const event = waiting[Math.round(at)];
      picked.push(typeof event === "string" ? JSON.parse(event) : event);
    }
    const oneOf = step * stride;
    this.rowsSinceAll = oneOf > 1 ? 0 : this.rowsSinceAll + picked.length;
    if (oneOf > 1 || !this.isSampled) this.oneOf = Math.max(2, Math.round(oneOf));
    return picked;
  }

  /// Whether some of the rows in the list were picked from more.
  get isSampled() {
    return this.rowsSinceAll < ROWS_MAX;
  }

  /// Old rows go, but not one that somebody has opened or stands on.
  dropOld() {
    let row = this.rows.lastElementChild;
    while (row && this.rows.childElementCount > ROWS_MAX) {
      const before = row.previousElementSibling;
      if (!row.classList.contains("open") && !row.contains(document.activeElement)) row.remove();
      row = before;
    }
  }

  tell() {
    if (this.placeholder) this.placeholder.hidden = this.matching > 0;
    const parts = [`${count(this.received)} received`];
    if (this.matching < this.received) parts.push(`${count(this.matching)} match`);
    if (this.isSampled) parts.push(`showing 1 of ${count(this.oneOf)}: too many to read`);
    else if (this.matching > ROWS_MAX) parts.push(`showing the newest ${ROWS_MAX}`);
    this.told.classList.toggle("sampled", this.isSampled);
    setText(this.told, parts.join(" · "));
  }

  row(envelope) {
    const { id, type, key, topic, data } = envelope;
    const text = typeof data === "string" ? data : JSON.stringify(data);
    const line = h(
      "button",
      { type: "button", class: "line", "aria-expanded": "false", onclick: () => toggle(line, envelope) },
      h("time", {}, time(envelope.time)),
      h("code", { class: "id" }, id.split("-")[0]),
      h(
        "span",
        { class: "kinds" },
        this.showsTopic && h("span", { class: "topic" }, topic),
        h("span", { class: "badge" }, type),
        key !== null && h("span", { class: "key" }, key),
      ),
      h("span", { class: "data" }, text.slice(0, 400)),
    );
    return h("li", {}, line);
  }
}

function toggle(line, envelope) {
  const row = line.parentElement;
  const isOpen = row.classList.toggle("open");
  line.setAttribute("aria-expanded", String(isOpen));
  if (!isOpen) {
    row.lastElementChild.remove();
    return;
  }
  const { id, topic, type, key, origin, uuid, data } = envelope;
  const facts = Object.entries({ id, topic, type, key, origin, time: envelope.time, uuid }).filter(
    ([, value]) => value !== null,
  );
  row.append(
    h(
      "div",
      { class: "detail" },
      h(
        "dl",
        { class: "facts" },
        facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]),
      ),
      h("pre", { tabindex: "0" }, pretty(data)),
    ),
  );
}
