/**
 * Figures of the host that prom-client's default metrics have and nothing else here needs. All are
 * read at the time of an exposition.
 */
import { lazily } from '../base/builtin.js';
import { hostClock } from '../base/clock.js';
import { jsc } from '../base/jsc.js';
import { GcObserver } from './gc-observer.js';
import type { Histogram } from './instruments.js';
import { cleaned } from './routes.js';

const v8 = lazily(() => process.getBuiltinModule('node:v8'));

/** Functions of Node without public documentation, which prom-client reads, too. */
interface Internals {
  _getActiveHandles?(): readonly unknown[];
  _getActiveRequests?(): readonly unknown[];
}

/** Value of one series of a figure with labels. @internal */
export type Sample = readonly [key: string, labels: readonly string[], value: number | null];

/** @internal */
export interface HostReading {
  readonly scalars: Readonly<Record<string, number | null>>;
  readonly samples: readonly Sample[];
  readonly gc: Histogram | undefined;
}

const NOTHING: HostReading = { scalars: {}, samples: [], gc: undefined };
const isBun = jsc !== undefined;
const MICROSECONDS = 1e6;

/** @internal */
export class HostFigures {
  readonly #gc = new GcObserver();
  #lagSeconds: number | null = null;

  /** Reads all figures; nothing where the naming does not have them. */
  read(isWanted: boolean, nowMs: number): HostReading {
    if (!isWanted) return NOTHING;
    const { user, system } = process.cpuUsage();
    const { heapTotal, external } = heapSizes();
    const lagSeconds = this.#lagSeconds;
    this.#measureLag();
    const active = activeFigures();
    return {
      scalars: {
        cpuUserSeconds: user / MICROSECONDS,
        cpuSystemSeconds: system / MICROSECONDS,
        cpuSeconds: (user + system) / MICROSECONDS,
        heapTotalBytes: heapTotal,
        externalBytes: external,
        lagSeconds,
        ...active.scalars,
      },
      samples: [...active.samples, ...heapSpaces(), version()],
      gc: this.#gc.read(nowMs),
    };
  }

  tick(nowMs: number): void {
    this.#gc.tick(nowMs);
  }

  close(): void {
    this.#gc.close();
  }

  /** Measures the time until the loop turns, for the next exposition, as prom-client does. */
  #measureLag(): void {
    const startMs = hostClock.now();
    setImmediate(() => {
      this.#lagSeconds = (hostClock.now() - startMs) / 1000;
    });
  }
}

interface HeapSizes {
  readonly heapTotal: number | null;
  readonly external: number | null;
}

/** Sizes without the resident set, whose reading costs more than all the rest. */
function heapSizes(): HeapSizes {
  if (isBun) return bunHeapSizes();
  const { total_heap_size: heapTotal, external_memory: external } = v8().getHeapStatistics();
  return { heapTotal, external };
}

/** Bun reads the resident set with them, from a file: without a free descriptor it throws. */
function bunHeapSizes(): HeapSizes {
  try {
    return process.memoryUsage();
  } catch {
    return { heapTotal: null, external: null };
  }
}

/** Bun has the functions, but they report nothing. */
function activeFigures(): Pick<HostReading, 'scalars' | 'samples'> {
  if (isBun) return NOTHING;
  const internals = process as unknown as Internals;
  const handles = internals._getActiveHandles?.().map(classOf);
  const requests = internals._getActiveRequests?.().map(classOf);
  const resources = process.getActiveResourcesInfo();
  return {
    scalars: {
      activeHandles: handles?.length ?? null,
      activeRequests: requests?.length ?? null,
      activeResources: resources.length,
    },
    samples: [
      ...countsOf('handlesByType', handles ?? []),
      ...countsOf('requestsByType', requests ?? []),
      ...countsOf('resourcesByType', resources),
    ],
  };
}

function classOf(object: unknown): string {
  const name: unknown = (object as { constructor?: { name?: unknown } } | null)?.constructor?.name;
  return typeof name === 'string' ? name : '';
}

function countsOf(key: string, names: readonly string[]): Sample[] {
  const counts = new Map<string, number>();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  counts.delete('');
  return [...counts].map(([name, count]) => [key, [cleaned(name)], count]);
}

/** Spaces of V8's heap. JavaScriptCore has one heap, and Bun invents the rest. */
function heapSpaces(): Sample[] {
  if (isBun) return [];
  return v8()
    .getHeapSpaceStatistics()
    .flatMap((space): Sample[] => {
      const labels = [space.space_name.replace(/_space$/, '')];
      return [
        ['spaceTotal', labels, space.space_size],
        ['spaceUsed', labels, space.space_used_size],
        ['spaceAvailable', labels, space.space_available_size],
      ];
    });
}

function version(): Sample {
  const [major = '', minor = '', patch = ''] = process.version.slice(1).split('.');
  return ['version', [process.version, major, minor, patch], 1];
}
