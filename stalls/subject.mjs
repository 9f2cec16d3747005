// Runs one case of the stall matrix, and prints the blocks as their own code has timed them, with the stalls
// that the monitor has reported. The clock is `performance.now()`, read in the blocked code itself.
import { execFileSync, execSync, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { once } from 'node:events';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { ResourceMonitor } from '../dist/index.js';
import { CASES } from './cases.mjs';

const THRESHOLD_MS = 100;
/** A longer gap between two reads of the clock in a spinning loop means that the process was stopped. */
const STOP_GAP_MS = 400;
const CALM_MS = 2200;

const id = isMainThread ? process.argv[2] : workerData;
const found = CASES.find((one) => one.id === id);
const isBun = typeof globalThis.Bun !== 'undefined';
/** Time at which the latest timer was due. */
let dueMs = 0;
const pause = (ms) => {
  dueMs = performance.now() + ms;
  return new Promise((resolve) => setTimeout(resolve, ms));
};
const gc = isBun ? () => globalThis.Bun.gc(true) : globalThis.gc;

const echo = createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
await once(echo, 'listening');
const client = connect(echo.address().port, '127.0.0.1');
await once(client, 'connect');

/** Resolves when the loop has polled its sockets: timers alone may run before it does. */
async function polled() {
  client.write('x');
  await once(client, 'data');
}

/** Spins for some time; returns the time for which the process was stopped meanwhile. */
function spin(ms) {
  let [last, stoppedMs] = [performance.now(), 0];
  for (const end = last + ms; last < end + stoppedMs;) {
    const now = performance.now();
    if (now - last > STOP_GAP_MS) stoppedMs += now - last;
    last = now;
  }
  return stoppedMs;
}

/**
 * Shells that wait for a line and then run their script. They are started before the monitor: to start a
 * process blocks the loop, on a busy machine for longer than the threshold.
 */
const shells = [];
function prepareShell(script) {
  const shell = spawn('sh', ['-c', `read line && { ${script}; }`], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  shells.push(shell);
}

/** Lets the next shell run; resolves when it has ended. */
function runShell() {
  const shell = shells.shift();
  const ended = once(shell, 'close');
  shell.stdin.end('\n');
  return ended;
}

const seconds = (time) => (time / 1000).toFixed(3);

/** Prepares a shell that sends this process SIGSTOP after some time, and SIGCONT `ms` later. */
function prepareStop(ms, afterMs) {
  const { pid } = process;
  const stop = `kill -STOP ${pid}; sleep ${seconds(ms)}; kill -CONT ${pid}`;
  prepareShell(`sleep ${seconds(afterMs)}; ${stop}`);
}

/** Returns the time that each CPU was taken from the machine by its host so far, ms: the "steal" of `/proc/stat`. */
const stolenMs = () =>
  readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .filter((line) => /^cpu\d/.test(line))
    .map((line) => Number(line.split(/\s+/)[8]) * 10);

/** Objects that make each collection take a while. */
const garbage = [];
function fill(count) {
  for (let at = 0; at < count; at++) garbage.push({ at, text: `item ${at}`, list: [at, at + 1] });
}

const cell = new Int32Array(new SharedArrayBuffer(4));
const hogs = [];
let folder;

/** Ways to block the thread; each returns the time for which the process was stopped, if any. */
const BLOCKS = {
  busy: spin,
  regex(ms) {
    const text = `${'a'.repeat(21)}!`;
    for (const end = performance.now() + ms; performance.now() < end;) /^(a+)+$/.test(text);
  },
  wait: (ms) => void Atomics.wait(cell, 0, 0, ms),
  exec: (ms) => void execSync(`sleep ${ms / 1000}`),
  read: () => void readFileSync(join(folder, 'pipe')),
  gc(ms) {
    for (const end = performance.now() + ms; performance.now() < end;) gc();
  },
  collect: () => void gc(),
  microtasks: async (ms) => {
    for (const end = performance.now() + ms; performance.now() < end;) await undefined;
  },
  busystop: spin,
  starved: spin,
};

/** Things to set up before the monitor is made, by the name of the step; each is given its time. */
const PREPARE = {
  stopped: (ms) => prepareStop(ms, 0.05),
  busystop: () => prepareStop(1000, 100),
  gc: () => fill(300_000),
  collect: () => fill(300_000),
  read: (ms) => {
    folder = mkdtempSync(join(tmpdir(), 'portcullis-stalls-'));
    const pipe = join(folder, 'pipe');
    execFileSync('mkfifo', [pipe]);
    prepareShell(`sleep 0.02; exec 3>${pipe}; sleep ${seconds(ms)}`);
  },
  starved: () => {
    execFileSync('taskset', ['-a', '-p', '-c', '0', String(process.pid)], { stdio: 'ignore' });
    for (let i = 0; i < 5; i++)
      hogs.push(spawn('taskset', ['-c', '0', process.execPath, '-e', 'for (;;);']));
  },
};

const blocks = [];
let stolenBefore = [];
/** Runs the blocks of one step in one callback, and times them as one. */
async function block(parts) {
  const cpu = process.cpuUsage();
  const startedAt = performance.timeOrigin + performance.now();
  const start = performance.now();
  // The loop itself is late on a machine that is short of CPUs, before the block and after it.
  const lateMs = Math.max(0, start - dueMs);
  let stoppedMs = 0;
  for (const [name, ms] of parts) {
    const result = BLOCKS[name](ms);
    stoppedMs += (name === 'microtasks' ? await result : result) ?? 0;
  }
  const wallMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  const end = performance.now();
  await polled();
  const aroundMs = lateMs + performance.now() - end;
  const cpuMs = (user + system) / 1000;
  blocks.push({ startedAt, ms: wallMs - stoppedMs, wallMs, aroundMs, cpuMs });
}

/** Returns the names of a step, each with its time, ms. */
const partsOf = (text) =>
  text.split(',').map((part) => {
    const [name, ms] = part.split(':');
    return [name, Number(ms)];
  });

async function step(text) {
  const parts = partsOf(text);
  const [[name, ms]] = parts;
  switch (name) {
    case 'gap':
      await pause(ms);
      return;
    case 'stopped':
      await runShell();
      return;
    case 'tasks':
      for (let i = 0; i < 100; i++) {
        await new Promise((resolve) => setImmediate(resolve));
        spin(ms);
      }
      return;
    case 'busystop': {
      const resumed = runShell();
      // Out of the turn in which the shell was told.
      await pause(20);
      await block(parts);
      await resumed;
      return;
    }
    case 'read':
      void runShell();
      await pause(20);
      await block(parts);
      return;
    default:
      await block(parts);
  }
}

async function run() {
  const parts = found.scene.flatMap(partsOf);
  for (const [name, ms] of parts) PREPARE[name]?.(ms);
  stolenBefore = stolenMs();
  if (found.before === 'start') {
    // The loop is blocked from here on: the block begins in the turn in which the monitor does.
    dueMs = performance.now();
    const monitor = new ResourceMonitor({}, { stalls: { thresholdMs: THRESHOLD_MS }, log: false });
    for (const text of found.scene) await step(text);
    return finish(monitor);
  }
  const monitor = new ResourceMonitor({}, { stalls: { thresholdMs: THRESHOLD_MS }, log: false });
  const lively = found.before === 'lively' ? setInterval(() => spin(0.5), 3) : undefined;
  await pause(CALM_MS);
  // In a callback of its own: the first block begins when the loop wakes.
  for (const text of found.scene) await step(text);
  clearInterval(lively);
  return finish(monitor);
}

async function finish(monitor) {
  await pause(300);
  const { loop } = monitor.snapshot();
  const result = {
    blocks,
    stalls: monitor.stalls(),
    watch: loop.watch,
    pauses: loop.pauses,
    // A thread runs on one CPU at a time.
    stolenMs: Math.max(0, ...stolenMs().map((ms, cpu) => ms - stolenBefore[cpu])),
  };
  monitor.close();
  client.destroy();
  echo.close();
  for (const hog of hogs) hog.kill('SIGKILL');
  if (folder !== undefined) rmSync(folder, { recursive: true });
  return result;
}

if (found.thread === 'worker' && isMainThread) {
  client.destroy();
  echo.close();
  const worker = new Worker(new URL(import.meta.url), { workerData: id });
  worker.once('message', (result) => {
    console.log(JSON.stringify(result));
    void worker.terminate();
  });
} else {
  const result = await run();
  if (isMainThread) console.log(JSON.stringify(result));
  else parentPort.postMessage(result);
}
