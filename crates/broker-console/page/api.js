// Requests to the broker, and what it says when it refuses.

import { askForToken, authorization } from "./session.js";

/// A refusal, as the broker words it (application/problem+json).
export class Problem extends Error {
  constructor({ status, code, detail, field, title }) {
    super(detail ?? title ?? `status ${status}`);
    Object.assign(this, { status, code, field });
  }

  static async of(response) {
    const said = await response.json().catch(() => ({}));
    return new Problem({ ...said, status: response.status });
  }
}

const UNREACHABLE = { status: 0, code: "unreachable", detail: "The broker does not answer. Is it running?" };

/// One request; the answer is JSON.
export async function request(method, path, { query = {}, headers = {}, body } = {}) {
  let response;
  try {
    response = await fetch(address(path, query), {
      method,
      body,
      cache: "no-store",
      headers: { Accept: "application/json", ...authorization(), ...headers },
    });
  } catch {
    throw new Problem(UNREACHABLE);
  }
  if (response.ok) return response.json();
  const problem = await Problem.of(response);
  if (problem.status === 401) askForToken(problem);
  throw problem;
}

export const get = (path, query) => request("GET", path, { query });

/// A path with its query; an array gives a parameter several times, and what is empty is left out.
export function address(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) {
      if (one !== undefined && one !== null && one !== "") parameters.append(name, one);
    }
  }
  const text = parameters.toString();
  return text ? `${path}?${text}` : path;
}

export const segment = encodeURIComponent;
export const topicPath = (topic) => `/v1/topics/${segment(topic)}`;
export const policyPath = (pattern) => `/v1/policies/${segment(pattern)}`;

export const isPattern = (text) => text.split(".").some((part) => part === "*" || part === "**");

/// Where a topic or a pattern is read, as path and query.
export function reading(pattern, query = {}) {
  return isPattern(pattern)
    ? ["/v1/events", { topic: pattern, ...query }]
    : [`${topicPath(pattern)}/events`, query];
}
