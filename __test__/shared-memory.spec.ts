import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import {
  createConnections,
  createJsonScanner,
  figurePlaces,
  ResourceWatch,
} from '../dist/native/addon.js';

// Memory that the core keeps: nothing can detach it, and the core refuses memory that could be.

const shared = (bytes: number): SharedArrayBuffer => new SharedArrayBuffer(bytes);
const CONFIG = { name: 'main', root: '', maxHeapBytes: 2 ** 30, warning: 75, critical: 90 };

interface Kept {
  readonly what: string;
  /** Hands arrays over; the one at `at` has the memory `buffer`, the others have shared memory. */
  readonly share: (buffer: ArrayBuffer | SharedArrayBuffer, at: number) => void;
  readonly count: number;
}

const table = (): ReturnType<typeof createConnections> => createConnections(undefined, [10]);
const KEPT: readonly Kept[] = [
  {
    what: 'the scratch, the names, the noted slots and the call of seats',
    count: 4,
    share: (buffer, at) => {
      const [scratch, text, noted, call] = [0, 1, 2, 3].map((place) =>
        place === at ? buffer : shared(1024),
      );
      table().share(
        new Float64Array(scratch!),
        new Uint16Array(text!),
        new Uint32Array(noted!),
        new Float64Array(call!),
      );
    },
  },
  {
    what: 'the stamps',
    count: 1,
    share: (buffer) => void table().grow(new Uint32Array(buffer)),
  },
  {
    what: 'the scratch, the path and the text of the JSON scanner',
    count: 3,
    share: (buffer, at) => {
      const [scratch, path, text] = [0, 1, 2].map((place) =>
        place === at ? buffer : shared(1024),
      );
      createJsonScanner().share(
        new Float64Array(scratch!),
        new Uint8Array(path!),
        new Uint8Array(text!),
      );
    },
  },
  {
    what: 'the cells of a monitor',
    count: 1,
    share: (buffer) => {
      new ResourceWatch(new Float64Array(buffer), CONFIG).close();
    },
  },
];
const BYTES = Math.max(1024, figurePlaces().length * 8);

describe.each(KEPT)('$what', ({ share, count }) => {
  it.each(Array.from({ length: count }, (_, at) => at))('must be shared memory: array %i', (at) => {
    share(shared(BYTES), at);
    expect(() => share(new ArrayBuffer(BYTES), at)).toThrow('SharedArrayBuffer');
    // Not detachable by a transfer, but growing it moves it.
    const { buffer } = new WebAssembly.Memory({ initial: 1 });
    expect(() => share(buffer, at)).toThrow('SharedArrayBuffer');
  });
});

it('is refused where it begins between two words, or has no element', () => {
  expect(() => table().grow(new Uint32Array(shared(64), 4))).toThrow('a multiple of 8');
  expect(() => table().grow(new Uint32Array(shared(64), 8, 0))).toThrow('a multiple of 8');
});

/**
 * Records every buffer that the library allocates, tries to detach each, and then uses the library.
 * It prints the number of buffers, the successful attempts, and the results.
 */
const SCRIPT = `
const made = [];
const Real = SharedArrayBuffer;
globalThis.SharedArrayBuffer = class extends Real {
  constructor(...args) { super(...args); made.push(this); }
};
const { ConnectionManager, ResourceMonitor, TimerManager, scanJson } = await import('./dist/index.js');
const { ManualClock } = await import('./dist/testing.js');
const clock = new ManualClock();
const timers = new TimerManager({ clock });
const manager = new ConnectionManager({ connectionTimeoutMs: 1000, maxConnectionsPerUser: 300 }, { timers });
const monitor = new ResourceMonitor({});
const socket = { close() {} };
const add = (id, userId) => manager.addConnection(id, socket, '192.0.2.1', userId);
add('first', 'ann');
const ways = [
  (buffer) => structuredClone(buffer, { transfer: [buffer] }),
  (buffer) => new MessageChannel().port1.postMessage(buffer, [buffer]),
  (buffer) => ArrayBuffer.prototype.transfer.call(buffer),
  (buffer) => ArrayBuffer.prototype.resize.call(buffer, 0),
  (buffer) => structuredClone(new Uint8Array(buffer), { transfer: [buffer] }),
];
let detached = 0;
for (const buffer of made) {
  const { byteLength } = buffer;
  for (const way of ways) {
    try { way(buffer); detached++; } catch {}
    if (buffer.byteLength !== byteLength) detached++;
  }
}
for (let i = 0; i < 200; i++) add('c' + i, 'ann');
const before = manager.snapshot().totalConnections;
for (let i = 0; i < 100; i++) manager.removeConnection('c' + i);
const between = manager.snapshot().totalConnections;
clock.advance(60_000);
const json = scanJson('{"a":[1,2,3]}');
const bad = scanJson('{"a":[1,2,}');
console.log(JSON.stringify({
  made: made.length >= 8, detached, before, between, after: manager.snapshot().totalConnections,
  values: json.value.values, path: bad.error.path, uptime: monitor.snapshot() !== undefined,
}));
process.exit(0);
`;

it('cannot be detached where the library allocates it, and nothing breaks', () => {
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', SCRIPT], {
    encoding: 'utf8',
  });
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    // The stamps, three arrays of seats, three of the scanner, the cells; Node makes one of its own.
    made: true,
    detached: 0,
    before: 201,
    between: 101,
    after: 0,
    values: 5,
    path: ['a', 2],
    uptime: true,
  });
});
