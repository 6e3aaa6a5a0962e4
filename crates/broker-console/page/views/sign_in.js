// Signing in with a token.

import { field, h, notice } from "../dom.js";
import { signIn } from "../session.js";

export function signInForm(problem, signedIn) {
  const token = h("textarea", {
    rows: "5",
    spellcheck: "false",
    autocomplete: "off",
    required: true,
    name: "token",
  });
  const isFirst = problem?.code === "missing-token";
  const form = h(
    "form",
    {
      class: "card sign-in",
      onsubmit: (event) => {
        event.preventDefault();
        signIn(token.value.trim());
        signedIn();
      },
    },
    h("h1", {}, "Sign in"),
    h("p", { class: "lead" }, "This broker asks for a token. The console may do what the token allows."),
    !isFirst && problem && notice(problem),
    field("Token", token, "It is kept in this tab only, and forgotten when the tab is closed."),
    h("button", { type: "submit", class: "primary" }, "Sign in"),
    h(
      "details",
      {},
      h("summary", {}, "How to make one"),
      h(
        "pre",
        {},
        "perennial token --key perennial.key --subject me \\\n  --admin --publish '**' --subscribe '**' --ttl 8h",
      ),
    ),
  );
  queueMicrotask(() => token.focus());
  return form;
}
