// The shell: which view is shown, signing in, colours. A view is a function that fills an element and returns what is to be
// called when it is left, so that no stream and no timer outlives it.

import { get } from "./api.js";
import { h, icon } from "./dom.js";
import { claims, signInAsked, signOut, token } from "./session.js";
import { startTheme } from "./theme.js";
import { acts } from "./views/acts.js";
import { connections } from "./views/connections.js";
import { overview } from "./views/overview.js";
import { publish } from "./views/publish.js";
import { resume } from "./views/resume.js";
import { signInForm } from "./views/sign_in.js";
import { topic } from "./views/topic.js";
import { topics } from "./views/topics.js";

const VIEWS = [
  { name: "overview", path: "", title: "Overview", show: overview },
  { name: "topics", path: "topics", title: "Topics", show: topics },
  { name: "publish", path: "publish", title: "Publish", show: publish },
  { name: "connections", path: "connections", title: "Connections", show: connections },
  { name: "acts", path: "acts", title: "Acts", show: acts },
  { name: "resume", path: "resume", title: "Resume", show: resume },
];
/// Reached from the list of topics, and part of it for the navigation.
const TOPIC = { name: "topics", path: "topic", title: "Topic", show: topic };

const main = document.getElementById("main");
let leave = () => {};

/// The view that the address names, and what stands behind its name there.
function chosen() {
  const [path, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  const view = [...VIEWS, TOPIC].find((view) => view.path === path) ?? VIEWS[0];
  return { view, argument: decodeURIComponent(rest.join("/")) };
}

function show() {
  const { view, argument } = chosen();
  leave();
  leave = () => {};
  const page = h("div", { class: `view view-${view.path || "overview"}` });
  main.replaceChildren(page);
  leave = view.show(page, argument) ?? leave;
  document.title = `${argument || view.title} · Perennial console`;
  for (const link of document.querySelectorAll("#nav a")) {
    const isHere = link.dataset.view === view.name;
    isHere ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
}

function askToSignIn(problem) {
  leave();
  leave = () => {};
  main.replaceChildren(signInForm(problem, start));
  document.title = "Sign in · Perennial console";
  showWho();
}

function showWho() {
  const known = token() ? claims() : null;
  const who = document.getElementById("who");
  who.hidden = !known;
  who.textContent = known ? `Signed in as ${known.sub ?? "a token without a name"}` : "";
  document.getElementById("sign-out").hidden = !token();
}

/// Shows the view, or asks for a token where the broker wants one. Who may not read the status may have other rights.
async function start() {
  showWho();
  try {
    await get("/v1/status");
  } catch (problem) {
    if (problem.status === 401) return;
  }
  show();
}

document
  .getElementById("nav")
  .append(
    ...VIEWS.map(({ name, path, title }) =>
      h("li", {}, h("a", { href: `#/${path}`, "data-view": name }, icon(name), h("span", {}, title))),
    ),
  );
document.getElementById("sign-out").addEventListener("click", () => {
  signOut();
  start();
});
signInAsked.addEventListener("asked", ({ detail }) => askToSignIn(detail));
addEventListener("hashchange", () => {
  show();
  // A screen reader and the keyboard go on with what is new.
  main.focus({ preventScroll: true });
  scrollTo(0, 0);
});
startTheme(document.getElementById("theme"));
start();
