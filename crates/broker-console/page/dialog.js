// Dialogs: the browser's own, so that focus stays inside, Escape closes them, and focus goes back where it was.

import { h } from "./dom.js";

/// Opens a dialog. `fill(close)` returns its content.
export function open(title, fill) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" });
  const close = () => dialog.close();
  dialog.append(h("h2", { id: "dialog-title" }, title), ...[fill(close)].flat());
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/// The buttons at the foot of a dialog.
export function buttons(close, ...others) {
  return h("div", { class: "buttons" }, h("button", { type: "button", onclick: close }, "Cancel"), ...others);
}
