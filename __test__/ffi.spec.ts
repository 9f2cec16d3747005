import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { hotCalls } from '../dist/native/addon.js';
import { ffiFunctions, usesFfi } from '../dist/native/ffi.js';
import { inFull } from './fixtures/long.js';

// The hot calls by `bun:ffi`: where they can be used, and that no argument, end or garbage collection makes them touch
// memory that is no table. `scripts/test.mjs` runs the specs of connections over them, too.

const isBun = 'bun' in process.versions;
const dist = (name: string): string =>
  JSON.stringify(new URL(`../dist/${name}`, import.meta.url).href);

/** Runs a script in a process of its own: a wrong access to memory would end this one. */
function runs(script: string, env: Record<string, string>): { stdout: string; stderr: string } {
  const args = isBun ? ['-e', script] : ['--input-type=module', '-e', script];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
    encoding: 'utf8',
    env: { ...process.env, ...env },
    timeout: 50_000,
  });
  expect({ status, signal, stderr: status === 0 ? '' : stderr }).toEqual({
    status: 0,
    signal: null,
    stderr: '',
  });
  return { stdout: stdout.trim(), stderr };
}

it('is used on Bun alone, and only where PORTCULLIS_FFI asks for it', () => {
  expect(usesFfi).toBe(isBun && process.env['PORTCULLIS_FFI'] === '1');
  for (const setting of [undefined, '', '0'])
    expect(ffiFunctions(setting, hotCalls)).toBeUndefined();
  expect(ffiFunctions('1', hotCalls) !== undefined).toBe(isBun);
});

it.each([
  ['1', () => [], isBun ? "the addon has no function 'take'" : 'this runtime has no bun:ffi'],
  ['yes', hotCalls, 'its value is neither 0 nor 1'],
])('says why %j cannot be used', async (setting, addresses, reason) => {
  const warning = new Promise<Error>((resolve) => process.once('warning', resolve));
  expect(ffiFunctions(setting, addresses)).toBeUndefined();
  expect(await warning).toMatchObject({
    name: 'PortcullisWarning',
    code: 'PORTCULLIS_FFI_UNAVAILABLE',
    message: `PORTCULLIS_FFI has no effect, Node-API is used: ${reason}`,
  });
});

it('admits by Node-API where it cannot be used', () => {
  const { stdout, stderr } = runs(
    `const { ConnectionManager } = await import(${dist('index.js')});
     const manager = new ConnectionManager({});
     console.log(manager.addConnection('a', { close() {} }, '192.0.2.1', 'ada').success);
     manager.close();`,
    { PORTCULLIS_FFI: 'on' },
  );
  expect(stdout).toBe('true');
  expect(stderr).toContain('PORTCULLIS_FFI_UNAVAILABLE');
});

describe.runIf(isBun)('on Bun', () => {
  it('answers garbage without a result, and touches no table', () => {
    const { stdout } = runs(
      `const { createConnections, hotCalls } = await import(${dist('native/addon.js')});
       const { ffiFunctions } = await import(${dist('native/ffi.js')});
       const calls = ffiFunctions('1', hotCalls);
       const shared = (type, length) => new type(new SharedArrayBuffer(8 * length), 0, length);
       const table = createConnections(undefined, [1000]);
       const noted = shared(Uint32Array, 65), call = shared(Float64Array, 6), text = shared(Uint16Array, 128);
       table.share(shared(Float64Array, 64), text, noted, call);
       table.grow(shared(Uint32Array, 4096));
       const number = table.openFfi();
       const place = number % 65536, serial = Math.floor(number / 65536);
       let seed = 1;
       const random = (below) => {
         seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
         return Math.floor((seed / 2 ** 32) * below);
       };
       const ODD = [0, 1, -1, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53, -(2 ** 53), 0.5, NaN, Infinity, -Infinity, 1e300];
       const odd = () => (random(2) === 0 ? ODD[random(ODD.length)] : random(2 ** 32));
       const answers = new Set();
       for (let i = 0; i < 1000; i++) {
         const serials = [serial + 1 + random(2 ** 31), serial], places = [place, place + 1 + random(2 ** 31)];
         if (calls.take(places[i % 2], serials[i % 2]) !== -1) throw new Error('a table that is none');
       }
       for (let i = 0; i < ${inFull(20_000, 500_000)}; i++) {
         // A table that is none, or the real one with cells, slots and times of any value.
         const isReal = random(2) === 0;
         const p = isReal ? place : odd(), s = isReal ? serial : odd();
         for (let at = 0; at < 6; at++) call[at] = odd();
         for (let at = 0; at < 65; at++) noted[at] = random(2) === 0 ? random(8192) : odd();
         text[random(128)] = random(65536);
         const answer = [
           () => calls.take(p, s),
           () => calls.settle(p, s),
           () => calls.release(p, s, odd()),
           () => calls.message(p, s, odd(), odd()),
         ][random(4)]();
         if (![-2, -1, 0, 1].includes(answer)) throw new Error('answer ' + answer);
         answers.add(answer);
       }
       noted[0] = 0;
       const total = table.total();
       for (let slot = 0; slot < 4096; slot++) calls.release(place, serial, slot);
       table.close();
       console.log([...answers].sort().join(), total > 0, table.total());
       process.exit(0);`,
      {},
    );
    expect(stdout).toBe('-1,-2,0,1 true 0');
  });

  it('finds no table of another thread, and none that was garbage collected', () => {
    const { stdout } = runs(
      `const { createConnections, hotCalls } = await import(${dist('native/addon.js')});
       const { ffiFunctions } = await import(${dist('native/ffi.js')});
       const calls = ffiFunctions('1', hotCalls);
       const split = (number) => [number % 65536, Math.floor(number / 65536)];
       const worker = new Worker(URL.createObjectURL(new Blob([
         'const { createConnections } = await import(' + ${JSON.stringify(dist('native/addon.js'))} + ');' +
         'globalThis.table = createConnections(undefined, [10]); postMessage(table.openFfi());' +
         'setInterval(() => {}, 1000);'
       ], { type: 'text/javascript' })));
       const theirs = split(await new Promise((resolve) => (worker.onmessage = ({ data }) => resolve(data))));
       const foreign = calls.settle(...theirs);
       await worker.terminate();
       const ended = calls.settle(...theirs);
       let gone = split(createConnections(undefined, [10]).openFfi());
       const before = calls.settle(...gone);
       for (let i = 0; i < 200 && calls.settle(...gone) !== -1; i++) {
         Bun.gc(true);
         await Bun.sleep(5);
       }
       const other = createConnections(undefined, [10]);
       const reused = split(other.openFfi());
       console.log(foreign, ended, before, calls.settle(...gone), calls.settle(...reused), reused[0] === gone[0]);
       process.exit(0);`,
      {},
    );
    expect(stdout).toBe('-1 -1 0 -1 0 true');
  });

  it('refuses after close(), gives seats back, and outlives workers that are terminated at any moment', () => {
    const { stdout } = runs(
      `const { ConnectionManager, TimerManager } = await import(${dist('index.js')});
       const timers = new TimerManager();
       const socket = { close() {} };
       const manager = new ConnectionManager({}, timers);
       const { connection } = manager.addConnection('a', socket, '192.0.2.1', 'ada');
       manager.addConnection('b', socket, '2001:db8::1', 'x'.repeat(500));
       const lease = manager.reserve('192.0.2.2', 'bob');
       manager.close();
       connection.ended();
       connection.received(1);
       const late = manager.addConnection('c', socket, '192.0.2.1', 'ada').code;
       const own = new ConnectionManager({}, timers, { name: 'shared' });
       const ROUNDS = ${inFull(6, 40)};
       for (let round = 0; round < ROUNDS; round++) {
         const worker = new Worker(URL.createObjectURL(new Blob([
           'const { ConnectionManager, TimerManager } = await import(' + ${JSON.stringify(dist('index.js'))} + ');' +
           'const m = new ConnectionManager({}, new TimerManager(), { name: "shared" });' +
           'for (let i = 0; i < 50; i++) m.addConnection("kept" + i, { close() {} }, "192.0.2.9", "u" + i);' +
           'postMessage(1);' +
           'for (let i = 0; ; i++) { m.addConnection("c", { close() {} }, "192.0.2.1", "ada"); m.removeConnection("c");' +
           ' if (i % 512 === 0) await new Promise((resolve) => setImmediate(resolve)); }'
         ], { type: 'text/javascript' })));
         await new Promise((resolve) => (worker.onmessage = resolve));
         await Bun.sleep(round % 4);
         await worker.terminate();
       }
       for (let i = 0; i < 400 && own.snapshot().totalConnections > 0; i++) await Bun.sleep(10);
       console.log(lease.success, late, manager.connections.size, own.snapshot().totalConnections);
       process.exit(0);`,
      { PORTCULLIS_FFI: '1' },
    );
    expect(stdout).toBe('true closed 0 0');
  });
});
