// The ledger of a reader: what it received, against what the log holds.
//
// The stream's word alone would prove nothing. So between two places of the log the same events are read again, as pages of
// JSON, and compared one by one with what came over the stream and all its cuts.

import { get, reading } from "./api.js";
import { sequence } from "./format.js";

const PAGE_EVENTS = 10_000;
/// Ids that may wait to be compared; beyond this the oldest are compared first.
const WAITING_MAX = 100_000;

export class Ledger {
  constructor(pattern) {
    this.pattern = pattern;
    Object.assign(this, {
      received: 0,
      compared: 0,
      missing: 0,
      twice: 0,
      removed: 0,
      reconnects: 0,
      gaps: 0,
    });
    /// Everything up to here was compared; nothing before the stream said where it begins.
    this.comparedTo = null;
    this.newest = 0;
    this.waiting = [];
  }

  begin(from) {
    this.comparedTo ??= from;
    this.newest = Math.max(this.newest, sequence(from));
  }

  take(id) {
    this.received += 1;
    if (sequence(id) <= this.newest) {
      this.twice += 1;
      return;
    }
    this.newest = sequence(id);
    this.waiting.push(id);
  }

  get isOverfull() {
    return this.waiting.length > WAITING_MAX;
  }

  /// Compares what was received up to now with the log.
  async compare() {
    if (this.comparing || this.comparedTo === null || this.waiting.length === 0) return;
    this.comparing = true;
    try {
      await this.compareWith(this.waiting.splice(0));
    } finally {
      this.comparing = false;
    }
  }

  async compareWith(ids) {
    const got = new Set(ids);
    const until = ids.at(-1);
    while (sequence(this.comparedTo) < sequence(until)) {
      const [path, query] = reading(this.pattern, {
        last_event_id: this.comparedTo,
        until,
        limit: PAGE_EVENTS,
      });
      const { events, next, gap } = await get(path, query);
      for (const { id } of events) {
        this.compared += 1;
        if (!got.delete(id)) this.missing += 1;
      }
      if (events.length === 0 && !gap) break;
      this.comparedTo = next;
    }
    this.comparedTo = until;
    // Received, and removed from the log since: by a policy, or a purge.
    this.removed += got.size;
  }
}
