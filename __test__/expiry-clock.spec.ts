import { expect, it } from 'vitest';
import { ExpiryClock, SETTLE_MS } from '../dist/base/expiry-clock.js';

/** A clock whose wall and monotonic time are set by hand. */
function clockOf(wallMs: number) {
  const time = { wallMs, monotonicMs: 500 };
  const clock = new ExpiryClock(
    () => time.wallMs,
    () => time.monotonicMs,
  );
  const pass = (ms: number): void => {
    time.wallMs += ms;
    time.monotonicMs += ms;
  };
  return { time, clock, pass };
}

it('goes on with the wall clock, and back with it at once', () => {
  const { time, clock, pass } = clockOf(1e12);
  expect(clock.nowMs()).toBe(1e12);
  pass(1000);
  expect(clock.nowMs()).toBe(1e12 + 1000);
  time.wallMs -= 5000;
  expect(clock.nowMs()).toBe(1e12 - 4000);
});

it('believes a step forward once it has lasted an hour', () => {
  const { time, clock, pass } = clockOf(1e12);
  time.wallMs += 60_000;
  expect(clock.nowMs()).toBe(1e12);
  pass(SETTLE_MS - 1);
  expect(clock.nowMs()).toBe(1e12 + SETTLE_MS - 1);
  pass(1);
  expect(clock.nowMs()).toBe(time.wallMs);
});

it('does not believe one that has ended, nor more of one than lasted', () => {
  const { time, clock, pass } = clockOf(0);
  time.wallMs += 60_000;
  clock.nowMs();
  pass(SETTLE_MS / 2);
  time.wallMs -= 60_000;
  clock.nowMs();
  time.wallMs += 60_000;
  clock.nowMs();
  pass(SETTLE_MS / 2);
  expect(clock.nowMs()).toBe(SETTLE_MS);
  // Another step within the same hour.
  time.wallMs += 7_200_000;
  pass(SETTLE_MS / 2);
  expect(clock.nowMs()).toBe(time.wallMs - 7_200_000);
});

it('knows no settled time in its first hour', () => {
  const { clock, pass } = clockOf(1e12);
  pass(SETTLE_MS - 1);
  expect(clock.settledMs()).toBe(-Infinity);
  pass(1);
  expect(clock.settledMs()).toBe(1e12 + SETTLE_MS);
});

it('stands still where the wall clock shows no number', () => {
  const { time, clock, pass } = clockOf(NaN);
  pass(5);
  expect(clock.nowMs()).toBe(5);
  time.wallMs = 1e12;
  expect(clock.nowMs()).toBe(5);
});
