// The token that this page signs in with. It is kept for the tab (sessionStorage), and sent in a header, so no other page
// and no other tab can use it.

const STORED = "perennial-token";

/// Told when the broker asks for a token, or for another one.
export const signInAsked = new EventTarget();

export function token() {
  return sessionStorage.getItem(STORED);
}

export function signIn(text) {
  sessionStorage.setItem(STORED, text);
}

export function signOut() {
  sessionStorage.removeItem(STORED);
}

export function askForToken(problem) {
  signInAsked.dispatchEvent(new CustomEvent("asked", { detail: problem }));
}

export function authorization() {
  const text = token();
  return text ? { Authorization: `Bearer ${text}` } : {};
}

/// Whom the token speaks for. Nothing is believed of it here: the broker judges it.
export function claims() {
  try {
    const [, payload] = token().split(".");
    return JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
  } catch {
    return null;
  }
}
