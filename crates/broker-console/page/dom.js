// Elements, made without markup in strings: what a publisher wrote can never become part of the page.

const SVG = "http://www.w3.org/2000/svg";

/// An element. Properties that begin with `on` are listeners; `class`, `data-*`, `aria-*` and others are attributes;
/// children are elements and texts, and what is null, undefined or false is left out.
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && typeof value !== "string") element[key] = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(
    ...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `/console/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/// A label above its control, with a hint below it.
export function field(label, control, hint) {
  const id = `field-${(field.count = (field.count ?? 0) + 1)}`;
  control.id = id;
  if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
  return h(
    "div",
    { class: "field" },
    h("label", { for: id }, label),
    control,
    hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
  );
}

/// A command to copy.
export function command(text) {
  const code = h("code", {}, text);
  return h(
    "div",
    { class: "command" },
    h("pre", { tabindex: "0" }, code),
    copyButton(() => code.textContent),
  );
}

export function copyButton(text, label = "Copy") {
  const button = h(
    "button",
    { type: "button", class: "small", onclick: () => copy(text(), button, label) },
    label,
  );
  return button;
}

async function copy(text, button, label) {
  try {
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  } catch {
    // Over plain HTTP from another machine a browser has no clipboard for pages.
    button.textContent = "Select and copy it";
  }
  setTimeout(() => (button.textContent = label), 1500);
}

/// Says what is empty, and what to do about it.
export function empty(title, text, ...more) {
  return h("div", { class: "empty" }, h("p", { class: "empty-title" }, title), h("p", {}, text), ...more);
}

/// A short message in the corner, read out by screen readers.
export function toast(text, kind = "good") {
  const note = h("p", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(note);
  setTimeout(() => note.remove(), 6000);
}

export function notice(problem) {
  return h("div", { class: "notice bad", role: "alert" }, problem.message);
}
