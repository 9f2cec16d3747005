/** Durations of garbage collections, observed while somebody reads the exposition. */
import { constants, PerformanceObserver } from 'node:perf_hooks';
import { Histogram } from './instruments.js';

/** Bounds of prom-client's default metric, s. */
const BUCKETS = [0.001, 0.01, 0.1, 1, 2, 5];
/** Time without a reading after which the observation ends. */
const IDLE_MS = 600_000;

/** Kinds of V8's collections, by the number in an entry. */
const KINDS = new Map<number | undefined, string>([
  [constants.NODE_PERFORMANCE_GC_MAJOR, 'major'],
  [constants.NODE_PERFORMANCE_GC_MINOR, 'minor'],
  [constants.NODE_PERFORMANCE_GC_INCREMENTAL, 'incremental'],
  [constants.NODE_PERFORMANCE_GC_WEAKCB, 'weakcb'],
]);
const { supportedEntryTypes } = PerformanceObserver as unknown as {
  readonly supportedEntryTypes: readonly string[];
};
const isObservable = supportedEntryTypes.includes('gc');

interface GcEntry {
  readonly duration: number;
  readonly detail?: { readonly kind?: number };
}

/**
 * Counts garbage collections from the first reading on. The observer costs an object and a callback
 * for each collection, so it ends ten minutes after the last reading; counts stay.
 * @internal
 */
export class GcObserver {
  #histogram: Histogram | undefined;
  #observer: PerformanceObserver | undefined;
  #readMs = 0;

  /** Returns the histogram and goes on observing; `undefined` where the host has no such entries. */
  read(nowMs: number): Histogram | undefined {
    if (!isObservable) return undefined;
    this.#readMs = nowMs;
    const histogram = (this.#histogram ??= emptyHistogram());
    if (this.#observer === undefined) {
      this.#observer = new PerformanceObserver((list) => {
        for (const entry of list.getEntries() as unknown as readonly GcEntry[]) {
          const kind = KINDS.get(entry.detail?.kind);
          if (kind !== undefined) histogram.labels(kind).observe(entry.duration / 1000);
        }
      });
      this.#observer.observe({ entryTypes: ['gc'] });
    }
    return histogram;
  }

  /** Ends the observation if nobody has read for long. */
  tick(nowMs: number): void {
    if (this.#observer !== undefined && nowMs - this.#readMs > IDLE_MS) this.close();
  }

  close(): void {
    this.#observer?.disconnect();
    this.#observer = undefined;
  }
}

function emptyHistogram(): Histogram {
  const histogram = new Histogram(
    'nodejs_gc_duration_seconds',
    'Duration of garbage collections by kind: major, minor, incremental or weakcb.',
    ['kind'],
    KINDS.size,
    BUCKETS,
  );
  // A rate needs the zero before the first collection.
  for (const kind of KINDS.values()) histogram.labels(kind);
  return histogram;
}
