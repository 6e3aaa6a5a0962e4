// Event streams, followed over every break.
//
// `followNatively` is the browser's own EventSource. It cannot send a token, and gives only events whose types are named
// beforehand. So `follow` reads the same stream with fetch: it sends the token in a header, gives events of all types,
// and can be cut on purpose. Both come back with Last-Event-ID, so neither misses anything.

import { Problem, address } from "./api.js";
import { askForToken, authorization } from "./session.js";
import { createParser } from "./vendor/eventsource-parser/index.js";

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 15000;

/// Follows a path. `on.events` gets what came at once, `on.state` how it is: connecting, live, waiting or refused.
export function follow(path, query, on) {
  const stream = new FetchedStream(path, query, on);
  stream.run();
  return stream;
}

class FetchedStream {
  constructor(path, query, on) {
    Object.assign(this, {
      path,
      query,
      on,
      lastId: null,
      retry: FIRST_RETRY_MS,
      failures: 0,
      stopped: false,
    });
    this.connection = null;
    this.wakeUp = () => {};
  }

  stop() {
    this.stopped = true;
    this.abort?.abort();
    this.wakeUp();
  }

  /// Breaks the connection at whatever byte it is at. The stream comes back by itself.
  cut() {
    this.abort?.abort();
  }

  async run() {
    while (!this.stopped) {
      this.tell("connecting");
      try {
        await this.connect();
        this.failures = 0;
      } catch (error) {
        if (error instanceof Problem && error.status < 500) return this.refuse(error);
        this.failures += 1;
      }
      if (this.stopped) return;
      this.tell("waiting");
      await this.pause();
    }
  }

  async connect() {
    this.abort = new AbortController();
    const headers = { Accept: "text/event-stream", ...authorization() };
    if (this.lastId !== null) headers["Last-Event-ID"] = this.lastId;
    const url = address(this.path, this.query);
    const response = await fetch(url, { headers, cache: "no-store", signal: this.abort.signal });
    if (!response.ok) throw await Problem.of(response);
    this.connection = response.headers.get("perennial-connection");
    this.failures = 0;
    this.tell("live");
    await this.read(response.body);
  }

  async read(body) {
    let events = [];
    // A new one for each connection: half an event is worth nothing on the next.
    const parser = createParser({
      onEvent: (event) => events.push(event),
      onRetry: (retry) => (this.retry = retry),
    });
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { done, value } = await reader.read();
      if (done || this.stopped) return;
      parser.feed(value);
      if (events.length === 0) continue;
      for (const event of events) this.lastId = event.id ?? this.lastId;
      this.on.events(events);
      events = [];
    }
  }

  refuse(problem) {
    this.stopped = true;
    if (problem.status === 401) askForToken(problem);
    this.tell("refused", problem);
  }

  /// Waits as long as the broker asked for, and longer while it does not answer.
  pause() {
    const wait = Math.min(this.retry * 2 ** Math.max(0, this.failures - 1), LONGEST_RETRY_MS);
    return new Promise((resolve) => {
      this.wakeUp = resolve;
      setTimeout(resolve, wait);
    });
  }

  tell(state, problem) {
    if (!this.stopped || state === "refused") this.on.state?.(state, problem);
  }
}

/// Follows a path with EventSource; events of other types than these are not given. An answer other than 200, such as a
/// proxy gives for a broker that starts, is the end of an EventSource: another one then goes on behind the last id.
export function followNatively(path, query, types, on) {
  let [source, timer, lastId] = [null, null, null];
  const open = () => {
    on.state?.("connecting");
    source = new EventSource(address(path, { ...query, last_event_id: lastId }));
    source.onopen = () => on.state?.("live");
    source.onerror = () => {
      on.state?.("waiting");
      if (source.readyState === EventSource.CLOSED) timer = setTimeout(open, LONGEST_RETRY_MS / 3);
    };
    for (const type of types) {
      source.addEventListener(type, ({ data, lastEventId }) => {
        lastId = lastEventId;
        on.events([{ event: type, data, id: lastEventId }]);
      });
    }
  };
  open();
  return {
    stop() {
      clearTimeout(timer);
      source.close();
    },
  };
}
