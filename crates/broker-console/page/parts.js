// Pieces that several views have.

import { h, setText } from "./dom.js";

const STATES = {
  connecting: "connecting",
  live: "live",
  waiting: "comes back by itself",
  refused: "refused",
  paused: "paused",
};

/// How a stream is. Changes are read out by screen readers.
export function statePill() {
  const element = h("p", { class: "pill", role: "status", "data-state": "connecting" }, STATES.connecting);
  return {
    element,
    show(state) {
      element.dataset.state = state;
      setText(element, STATES[state]);
    },
  };
}

/// A button in a row of a table. Its word is the same in each row, so who cannot see the row is told what it is about.
export function rowButton(word, about, onclick) {
  return h("button", { type: "button", class: "small", "aria-label": about, onclick }, word);
}

/// Asks again and again while the view is open, and not while nobody sees the page.
export function every(milliseconds, work) {
  let timer;
  let stopped = false;
  const turn = async () => {
    if (!document.hidden) await work();
    if (!stopped) timer = setTimeout(turn, milliseconds);
  };
  turn();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}

/// Puts new content in place of old. Where somebody stands with the keyboard, in which row and on which of its controls, they
/// still stand afterwards.
export function renew(container, content) {
  const focused = document.activeElement;
  const name = container.contains(focused)
    ? (focused.getAttribute("aria-label") ?? focused.textContent)
    : null;
  const rowName = focused?.closest("tr")?.dataset.row;
  container.replaceChildren(content);
  if (name === null) return;
  const rows = [...container.querySelectorAll("tr")].filter((row) => row.dataset.row === rowName);
  const controls = rows.flatMap((row) => [...row.querySelectorAll("a, button")]);
  controls
    .find((control) => (control.getAttribute("aria-label") ?? control.textContent) === name)
    ?.focus({ preventScroll: true });
}

/// A table; narrow screens show each row as a block, with the names of the columns.
export function table(caption, columns, rows) {
  return h(
    "div",
    { class: "scroll" },
    h(
      "table",
      {},
      h("caption", { class: "unseen" }, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          columns.map(([name, kind]) => h("th", { scope: "col", class: kind ?? "" }, name)),
        ),
      ),
      h("tbody", {}, rows),
    ),
  );
}

/// A row of such a table; `name` is what it is about.
export function row(columns, name, cells) {
  return h(
    "tr",
    { "data-row": name },
    cells.map((cell, n) => h("td", { class: columns[n][1] ?? "", "data-label": columns[n][0] }, cell)),
  );
}
