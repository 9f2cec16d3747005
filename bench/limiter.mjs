// Compares rate limits by key with the packages that applications use, and with the least that a
// map of counts can cost: with 100,000 live keys, which no cache holds, and with 1,000; in a random
// order. Then the accuracy, and on Bun a whole app. Run: node --expose-gc bench/limiter.mjs
import { DefaultContext } from 'elysia-rate-limit';
import { MemoryStore } from 'express-rate-limit';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { differencesOf, worstOf } from '../__test__/fixtures/rate-model.mjs';
import { RateLimiter } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { compare, compareAsync, machine, verdict } from './compare.mjs';

const LIVE = 100_000;
const CALLS = 100_000;
// More than a minute for each cost: no key has its whole limit again before the end. And enough for the
// few keys of the second contest.
const WINDOW_MS = 1e9;
const LIMIT = 10_000;

// Addresses, as a server gets them: fresh strings without a hash, in a random order.
const keyOf = (at) => `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;
let seed = 1;
const next = () => (seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0);
/** Returns flat copies of the keys that one round asks for. */
const freshKeys = (live = LIVE) =>
  Array.from({ length: CALLS }, () => Buffer.from(keyOf(next() % live)).toString('latin1'));

const limiters = ['gcra', 'sliding-window', 'fixed-window'].map(
  (algorithm) => new RateLimiter({ limit: LIMIT, windowMs: WINDOW_MS, algorithm }),
);
const [ours] = limiters;
const map = new Map();
const flexible = new RateLimiterMemory({ points: LIMIT, duration: WINDOW_MS / 1000 });
const express = new MemoryStore();
express.init({ windowMs: WINDOW_MS });
const elysia = new DefaultContext(LIVE);
elysia.init({ duration: WINDOW_MS });

console.log(`${machine}, ${LIVE} live keys`);
for (let at = 0; at < LIVE; at++) {
  const key = keyOf(at);
  for (const limiter of limiters) limiter.take(key);
  map.set(key, 1);
  await flexible.consume(key);
  await express.increment(key);
  await elysia.increment(key);
}

/** CPU time of a call, ns: a busy machine does not change it much. The keys are made before. */
const spent = (start) => {
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / CALLS;
};
/** Times calls one after the other, as a handler makes them. */
const timedAsync = async (call, live) => {
  const keys = freshKeys(live);
  const start = process.cpuUsage();
  for (const key of keys) await call(key);
  return spent(start);
};
const timedSync = (call, live = LIVE) => {
  const keys = freshKeys(live);
  const start = process.cpuUsage();
  for (const key of keys) call(key);
  return spent(start);
};
let admitted = 0;
const take =
  (limiter, live = LIVE) =>
  () =>
    timedSync((key) => {
      if (limiter.take(key).success) admitted++;
    }, live);

// The others return promises, and their caller waits for them; ours need not be waited for.
const contest = (live) =>
  compareAsync(
    `CPU time of a request, ${live} live keys`,
    [
      [
        'rate-limiter-flexible, RateLimiterMemory',
        () => timedAsync((key) => flexible.consume(key), live),
      ],
      ['express-rate-limit, MemoryStore', () => timedAsync((key) => express.increment(key), live)],
      ['elysia-rate-limit, DefaultContext', () => timedAsync((key) => elysia.increment(key), live)],
      [
        'Map.get and Map.set',
        () =>
          timedSync((key) => {
            map.set(key, map.get(key) + 1);
          }, live),
      ],
      ['portcullis, gcra', take(limiters[0], live)],
      ['portcullis, sliding-window', take(limiters[1], live)],
      ['portcullis, fixed-window', take(limiters[2], live)],
    ],
    { rounds: 9 },
  );
/** Compares the medians of a contest with the targets. */
function judge([flexibleNs, expressNs, elysiaNs, mapNs, gcraNs]) {
  verdict('than rate-limiter-flexible', flexibleNs / gcraNs, 'x', { least: 10, aim: 25 });
  verdict('than express-rate-limit', expressNs / gcraNs, 'x', { least: 5, aim: 10 });
  verdict('than elysia-rate-limit', elysiaNs / gcraNs, 'x', { least: 5, aim: 10 });
  verdict('of Map.get and Map.set', gcraNs / mapNs, 'x', { most: 2, aim: 1.2 });
}
judge(await contest(LIVE));
judge(await contest(1000));

// Parts of a call: what is left if the keys are few, one, or none.
const few = new RateLimiter({ limit: 2 ** 30, windowMs: WINDOW_MS });
let sum = 0;
compare('parts of a call, CPU time', [
  ['take(), 100,000 live keys', take(limiters[0])],
  ['the same, 1,000 live keys', () => timedSync((key) => void few.take(key), 1000)],
  ['the same, one key', () => timedSync(() => void few.take('10.0.0.1'))],
  ['a call of the core, which reads the clock', () => timedSync(() => void few.fixedNow())],
  [
    'the characters of each key alone',
    () =>
      timedSync((key) => {
        for (let at = 0; at < key.length; at++) sum += key.charCodeAt(at);
      }),
  ],
  ['Map.get, 1,000 live keys', () => timedSync((key) => void (sum += map.get(key)), 1000)],
  ['Map.get, 100,000 live keys', () => timedSync((key) => void (sum += map.get(key)))],
]);
if (admitted === 0 || sum === 0 || ours.snapshot().keys !== LIVE)
  throw new Error('the keys were not counted');
limiters.forEach((limiter, at) => {
  const { bytes, keys } = limiter.snapshot();
  const name = ['gcra', 'sliding-window', 'fixed-window'][at];
  verdict(`a live key, ${name}`, bytes / keys, 'B', { most: 40, ...(at === 0 && { aim: 24 }) });
});

// The accuracy: random arrivals against a naive model, and the most that any window admits.
const limiterOf = (options) => {
  const clock = new ManualClock();
  return { clock, limiter: new RateLimiter({ ...options, clock }) };
};
for (const [algorithm, most] of [
  ['gcra', 19],
  ['sliding-window', 10],
  ['fixed-window', 19],
]) {
  const differences = differencesOf(algorithm, 1_000_000, limiterOf);
  verdict(`${algorithm}: differences in 10^6`, differences, '', { most: 0 });
  verdict(`${algorithm}: most in a window, of 10`, worstOf(algorithm, limiterOf), '', { most });
}

if ('bun' in process.versions) {
  const { compareApps } = await import('./limiter-elysia.mjs');
  await compareApps();
}
process.exit();
