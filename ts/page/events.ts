/**
 * Events of the page: compares each look with the one before, and writes the differences to the
 * journal.
 */
import type { ConnectionStats } from '../connections/stats.js';
import type { CollectionRecord, Stall } from '../resources/figures.js';
import { Journal } from './journal.js';
import type { PageCount, PageEvent, PageStall, PageState } from './snapshot.js';

const STALLS_MAX = 64;
/** Stalls of this length are critical. */
const LONG_STALL_MS = 1000;
/** Characters of a request's id in the text of an event. */
const ID_SHOWN = 64;
const CAUSES = {
  busy: 'busy on the CPU',
  blocked: 'blocked in a system call',
  starved: 'waiting for a CPU',
  throttled: 'CPU quota used up',
  unknown: 'cause unknown',
} as const;

/** One look, as far as events depend on it. */
interface Look {
  readonly at: number;
  readonly evicted: number;
  readonly admitted: number;
  readonly refused: ReadonlyMap<string, number>;
  readonly state: PageState;
}

/** Differences between two looks. */
interface Changes {
  readonly admitted: number | null;
  readonly refused: number | null;
}

const plural = (count: number, noun: string): string =>
  `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;

/** @internal */
export class PageEvents {
  readonly #journal = new Journal();
  #stalls: PageStall[] = [];
  #lastStallId = 0;
  #lastCollectionAt = 0;
  #before: Look | undefined;

  /** Events, the newest first. */
  get all(): readonly PageEvent[] {
    return this.#journal.events;
  }

  /** The last 64 stalls, the oldest first. */
  get stalls(): readonly PageStall[] {
    return this.#stalls;
  }

  /** Adds an event of the server itself. */
  addServerEvent(at: number, severity: PageEvent['severity'], text: string): void {
    this.#journal.add(at, 'server', severity, text);
  }

  /** Adds the stalls since the last look. */
  addStalls(stalls: readonly Stall[]): void {
    for (const stall of stalls) {
      if (stall.id <= this.#lastStallId) continue;
      this.#lastStallId = stall.id;
      const { startedAt, durationMs, cause, label, requests } = stall;
      const start = Math.round(startedAt);
      this.#stalls.push({
        startedAt: start,
        durationMs: Math.round(durationMs),
        cause,
        label,
        requestId: requests[0]?.requestId ?? null,
      });
      const severity = durationMs >= LONG_STALL_MS ? 'critical' : 'warning';
      this.#journal.add(start, 'stall', severity, stallText(stall));
    }
    this.#stalls = this.#stalls.slice(-STALLS_MAX);
  }

  /** Adds the garbage collections since the last look. */
  addCollections(collections: readonly CollectionRecord[]): void {
    for (const { at, durationMs, freedMb } of collections) {
      if (at <= this.#lastCollectionAt) continue;
      this.#lastCollectionAt = at;
      this.#journal.add(
        Math.round(at),
        'collection',
        'info',
        `Garbage collection at critical memory: ${Math.round(freedMb)} MB freed in ${Math.round(durationMs)} ms`,
      );
    }
  }

  /**
   * Adds refusals, idle connections and the change of state since the last look; returns the
   * differences.
   */
  addChanges(
    at: number,
    { admitted, evicted }: ConnectionStats,
    refusals: readonly PageCount[],
    state: PageState,
    reason: string,
  ): Changes {
    const refused = new Map(refusals.map(({ name, count }) => [name, count]));
    const now: Look = { at, evicted, admitted, refused, state };
    const before = this.#before;
    this.#before = now;
    if (before === undefined) return { admitted: null, refused: null };
    const added = this.#addRefusals(before, now);
    this.#addEvicted(before, now);
    // The end of the server is an event already: `addServerEvent`.
    if (state !== before.state && state !== 'draining') this.#addState(before, now, reason);
    return { admitted: admitted - before.admitted, refused: added };
  }

  #addRefusals(before: Look, { at, refused }: Look): number {
    let total = 0;
    for (const [name, count] of refused) {
      const added = count - (before.refused.get(name) ?? 0);
      total += added;
      if (added <= 0) continue;
      const reason = name.replaceAll('_', ' ');
      this.#journal.count(
        at,
        'refused',
        name,
        added,
        (sum) => `${plural(sum, 'refusal')}: ${reason}`,
      );
    }
    return total;
  }

  #addEvicted(before: Look, { at, evicted }: Look): void {
    const added = evicted - before.evicted;
    if (added <= 0) return;
    const text = (sum: number): string => `${plural(sum, 'idle connection')} closed`;
    this.#journal.count(at, 'evicted', '', added, text);
  }

  #addState(before: Look, { at, state }: Look, reason: string): void {
    const severity = state === 'critical' || state === 'warning' ? state : 'info';
    const because = reason === '' ? '' : `: ${reason}`;
    this.#journal.add(at, 'state', severity, `State ${before.state} → ${state}${because}`);
  }
}

/** Returns the text of a stall: the ids before the label, since a long label is cut off. */
function stallText({ durationMs, cause, systemCall, label, requests }: Stall): string {
  const call = systemCall === null ? '' : ` (${systemCall})`;
  const where = label === null ? '' : `, in ${label}`;
  return `Event loop blocked for ${Math.round(durationMs)} ms: ${CAUSES[cause]}${call}${requestText(requests)}${where}`;
}

function requestText(requests: Stall['requests']): string {
  const [first] = requests;
  if (first === undefined) return '';
  // The trace id is the second of the four parts.
  const trace = first.traceparent === null ? '' : `, trace ${first.traceparent.slice(3, 35)}`;
  const others = requests.length > 1 ? ` and ${requests.length - 1} more` : '';
  return `, request ${first.requestId.slice(0, ID_SHOWN)}${trace}${others}`;
}
