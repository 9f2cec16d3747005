/** The journal: a bounded list of events. Repeated counts within ten seconds share one event. */
import type { PageEvent } from './snapshot.js';

const EVENTS_MAX = 60;
/** Counts of one kind and name within this time are added up in one event. */
const MERGED_MS = 10_000;
const TEXT_MAX = 200;

/** @internal */
export class Journal {
  #id = 0;
  #events: PageEvent[] = [];
  /** Counts that are still added up, by kind and name. */
  readonly #sums = new Map<string, { id: number; count: number; since: number }>();

  /** Events, the newest first. */
  get events(): readonly PageEvent[] {
    return this.#events;
  }

  /** Adds an event; returns its id. @param at wall-clock milliseconds */
  add(at: number, kind: PageEvent['kind'], severity: PageEvent['severity'], text: string): number {
    const id = ++this.#id;
    this.#events.unshift(Object.freeze({ id, at, kind, severity, text: text.slice(0, TEXT_MAX) }));
    if (this.#events.length > EVENTS_MAX) this.#events.pop();
    return id;
  }

  /**
   * Adds to a count: to its event of the last ten seconds, else to a new one.
   * @param name one of a fixed set, so that the number of sums is bounded
   * @param text returns the event's text for a sum
   */
  count(
    at: number,
    kind: PageEvent['kind'],
    name: string,
    added: number,
    text: (sum: number) => string,
  ): void {
    const key = `${kind} ${name}`;
    const sum = this.#sums.get(key);
    const place =
      sum === undefined || at - sum.since > MERGED_MS
        ? -1
        : this.#events.findIndex(({ id }) => id === sum.id);
    if (sum === undefined || place === -1) {
      const id = this.add(at, kind, 'warning', text(added));
      this.#sums.set(key, { id, count: added, since: at });
      return;
    }
    sum.count += added;
    this.#events[place] = Object.freeze({ ...this.#events[place]!, text: text(sum.count) });
  }
}
