// The cases of the stall matrix: how the thread is blocked, for how long, and the report that is expected.
//
// Each case is one process (`subject.mjs`). The durations are those that the blocked code aims at; the
// compared ones are measured in it.

/**
 * @typedef {object} Case
 * @property {string} id name on the command line and in the table
 * @property {string} title one line
 * @property {'main' | 'worker'} thread the blocked thread
 * @property {'calm' | 'lively' | 'start'} before the loop before the block: idle for two seconds, busy with
 *   timers of a few milliseconds, or just begun
 * @property {readonly string[]} scene the blocks in their order, as `name:ms`; `gap:ms` leaves the loop alone
 * @property {readonly string[]} causes cause of each block; empty if no stall is expected
 * @property {boolean} [isShort] part of the short form
 * @property {string} [needs] program without which the case is left out
 */

const busy = ['busy'];
const blocked = ['blocked'];
/**
 * The subject's own CPU time shows whether a collection, on whichever thread, was at work for at least half of
 * the time.
 */
const byCpu = ['by CPU time'];

const one = (id, title, scene, causes, rest = {}) => ({
  id,
  title,
  thread: 'main',
  before: 'calm',
  scene: scene.split(' '),
  causes,
  ...rest,
});
const short = { isShort: true };
const lively = { before: 'lively' };
const worker = { thread: 'worker' };

/** @type {readonly Case[]} */
export const CASES = [
  one('busy-60', 'below the threshold', 'busy:60', []),
  one('busy-112', 'just above the threshold', 'busy:112', busy),
  one('busy-302', 'a loop without end', 'busy:302', busy, short),
  one('busy-1000', 'a loop without end', 'busy:1000', busy),
  one('busy-3000', 'a loop without end', 'busy:3000', busy),
  one('regex-300', 'a regular expression that backtracks', 'regex:300', busy),
  one('wait-150', '`Atomics.wait`', 'wait:150', blocked),
  one('wait-302', '`Atomics.wait`', 'wait:302', blocked, short),
  one('wait-1000', '`Atomics.wait`', 'wait:1000', blocked),
  one('exec-300', '`execSync`', 'exec:300', blocked, short),
  one('exec-1000', '`execSync`', 'exec:1000', blocked),
  one('read-300', '`readFileSync` of a pipe', 'read:300', blocked, { needs: 'mkfifo' }),
  one('gc-200', 'garbage collections', 'gc:200', byCpu, short),
  one('gc-1000', 'garbage collections', 'gc:1000', byCpu),
  one('gc-then-busy', 'a collection, then busy in the same turn', 'collect:0,busy:302', busy),
  one('gc-gap-busy', 'busy after a collection and a pause', 'collect:0 gap:300 busy:302', [
    ...byCpu,
    ...busy,
  ]),
  one('stop-idle', 'SIGSTOP while the loop is idle', 'stopped:1000', []),
  one('stop-busy', 'SIGSTOP while it is busy', 'busystop:302', busy, short),
  one('stop-wait', 'SIGSTOP, and busy 300 ms later', 'stopped:1000 gap:300 busy:302', busy),
  one('starved-300', 'busy among other processes on one CPU', 'starved:300', ['starved'], {
    needs: 'taskset',
  }),
  one('starved-1000', 'busy among other processes on one CPU', 'starved:1000', ['starved'], {
    needs: 'taskset',
  }),
  one('many-tasks', '100 tasks of 15 ms', 'tasks:15', [], short),
  one('microtasks-300', 'microtasks without end', 'microtasks:300', busy),
  one('mixed-busy', 'blocked, then busy for longer', 'wait:150,busy:350', busy),
  one('mixed-blocked', 'busy, then blocked for longer', 'busy:150,wait:350', blocked),
  one('lively-busy-150', 'busy, while timers run', 'busy:150', busy, { ...lively, ...short }),
  one('lively-busy-302', 'busy, while timers run', 'busy:302', busy, lively),
  one('lively-wait-302', '`Atomics.wait`, while timers run', 'wait:302', blocked, lively),
  one('start-busy', 'busy as soon as the monitor exists', 'busy:302', busy, { before: 'start' }),
  one('twice-1', 'two blocks, 1 ms between', 'busy:302 gap:1 busy:302', busy),
  one('twice-20', 'two blocks, 20 ms between', 'busy:302 gap:20 wait:302', ['busy', 'blocked'], {}),
  one('worker-busy', 'busy in a worker', 'busy:302', busy, { ...worker, ...short }),
  one('worker-wait', '`Atomics.wait` in a worker', 'wait:302', blocked, worker),
  one('worker-gc', 'garbage collections in a worker', 'gc:200', byCpu, worker),
];
