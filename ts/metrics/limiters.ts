/** The attached rate limiters: their counts, by label. */
import { outOfRange, wrongType } from '../base/errors.js';
import { RateLimiter } from '../limiter/limiter.js';
import { nameLabel, OTHER } from './routes.js';

const LABELS_MAX = 100;
const LABEL_MAX = 128;

/** Counts of all limiters with one label. @internal */
export interface LimiterFigures {
  readonly label: string;
  readonly admitted: number;
  readonly refused: number;
  readonly blocks: number;
  readonly evicted: number;
  readonly keys: number;
  readonly bytes: number;
}

/** Counts that a limiter keeps when it is detached: a counter must not fall. */
type Totals = { admitted: number; refused: number; blocks: number; evicted: number };

const NONE: Readonly<Totals> = { admitted: 0, refused: 0, blocks: 0, evicted: 0 };

/** @internal */
export class LimiterSources {
  readonly #limiters = new Map<RateLimiter, string>();
  /** Counts of detached limiters, by label: each label that was ever used has an entry. */
  readonly #detached = new Map<string, Totals>();
  /** Counts of each limiter at its last detachment: attached again, it goes on from there. */
  readonly #left = new WeakMap<RateLimiter, Totals>();
  /** Evictions of the table of each limiter at the last detachment from it. Limiters of one table share the object. */
  readonly #tables = new WeakMap<RateLimiter, { evicted: number }>();

  /**
   * Adds a limiter; repeated calls have no effect.
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  attach(limiter: RateLimiter, label: string | undefined): void {
    if (!(limiter instanceof RateLimiter)) throw wrongType('limiter', limiter, 'a RateLimiter');
    const name = label ?? limiter.name;
    if (typeof name !== 'string' || name === '')
      throw wrongType('label', name, 'a string that is not empty: the limiter has no name');
    if (name.length > LABEL_MAX) throw outOfRange('label', name, `1 to ${LABEL_MAX} characters`);
    if (this.#limiters.has(limiter)) return;
    const shown = nameLabel(name);
    const isKnown = this.#detached.has(shown) || this.#detached.size < LABELS_MAX - 1;
    const at = isKnown ? shown : OTHER;
    if (!this.#detached.has(at)) this.#detached.set(at, { ...NONE });
    const sharer = this.#sharerOf(limiter, at);
    this.#tables.set(limiter, this.#tables.get(sharer ?? limiter) ?? { evicted: 0 });
    this.#limiters.set(limiter, at);
  }

  /** Removes a limiter; unknown ones are ignored. */
  detach(limiter: RateLimiter): void {
    const label = this.#limiters.get(limiter);
    if (label === undefined) return;
    this.#limiters.delete(limiter);
    const { admitted, refused, blocks, evicted } = this.#sinceLeft(limiter);
    const totals = this.#detached.get(label)!;
    totals.admitted += admitted;
    totals.refused += refused;
    totals.blocks += blocks;
    const now = limiter.counts();
    this.#left.set(limiter, now);
    // The count of the table goes on with the others.
    if (this.#sharerOf(limiter, label) !== undefined) return;
    totals.evicted += evicted;
    this.#tables.get(limiter)!.evicted = now.evicted;
  }

  /** Returns an attached limiter of the same label and table: limiters of one name have one table. */
  #sharerOf({ name }: RateLimiter, label: string): RateLimiter | undefined {
    if (name === undefined) return undefined;
    for (const [other, at] of this.#limiters) if (at === label && other.name === name) return other;
    return undefined;
  }

  /** Returns the counts of a limiter without those of its former attachments. */
  #sinceLeft(limiter: RateLimiter): ReturnType<RateLimiter['counts']> {
    const counts = limiter.counts();
    const { admitted, refused, blocks } = this.#left.get(limiter) ?? NONE;
    return {
      ...counts,
      admitted: counts.admitted - admitted,
      refused: counts.refused - refused,
      blocks: counts.blocks - blocks,
      evicted: counts.evicted - this.#tables.get(limiter)!.evicted,
    };
  }

  /** The limiters, each with its label. */
  attached(): ReadonlyMap<RateLimiter, string> {
    return this.#limiters;
  }

  /** Counts at this moment, one for each label. */
  figures(): LimiterFigures[] {
    const all = new Map(
      [...this.#detached].map(([label, totals]) => [
        label,
        { label, ...totals, keys: 0, bytes: 0 },
      ]),
    );
    const seen = new Set<string>();
    for (const [limiter, label] of this.#limiters) {
      const sum = all.get(label)!;
      const stats = this.#sinceLeft(limiter);
      sum.admitted += stats.admitted;
      sum.refused += stats.refused;
      sum.blocks += stats.blocks;
      const table = limiter.name === undefined ? undefined : `${label}\n${limiter.name}`;
      if (table !== undefined && seen.has(table)) continue;
      if (table !== undefined) seen.add(table);
      sum.evicted += stats.evicted;
      sum.keys += stats.keys;
      sum.bytes += stats.bytes;
    }
    return [...all.values()];
  }
}
