/** What has happened lately: a bounded list that others write to. */
import type { PageEvent } from './snapshot.js';

const KEPT = 60;
/** Counts of one kind that come within so many milliseconds are told together. */
const TOGETHER_MS = 10_000;
const TEXT_MAX = 200;

/** @internal */
export class Journal {
  #id = 0;
  #events: PageEvent[] = [];
  /** Counts that are still being added up, by kind and name. */
  readonly #sums = new Map<string, { id: number; count: number; since: number }>();

  /** The newest first. */
  get events(): readonly PageEvent[] {
    return this.#events;
  }

  add(at: number, kind: PageEvent['kind'], severity: PageEvent['severity'], text: string): number {
    const id = ++this.#id;
    this.#events.unshift(Object.freeze({ id, at, kind, severity, text: text.slice(0, TEXT_MAX) }));
    if (this.#events.length > KEPT) this.#events.pop();
    return id;
  }

  /** So many more of something; `text` puts the sum into words. `name` comes from a fixed set. */
  count(
    at: number,
    kind: PageEvent['kind'],
    name: string,
    more: number,
    text: (sum: number) => string,
  ): void {
    const key = `${kind} ${name}`;
    const sum = this.#sums.get(key);
    const place =
      sum === undefined || at - sum.since > TOGETHER_MS
        ? -1
        : this.#events.findIndex(({ id }) => id === sum.id);
    if (sum === undefined || place === -1) {
      this.#sums.set(key, {
        id: this.add(at, kind, 'warning', text(more)),
        count: more,
        since: at,
      });
      return;
    }
    sum.count += more;
    this.#events[place] = Object.freeze({ ...this.#events[place]!, text: text(sum.count) });
  }
}
