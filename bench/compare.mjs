// Shared by all benchmarks: runs contestants in turn in one process, and prints medians and ratios.
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';

export const host =
  'bun' in process.versions ? `Bun ${process.versions.bun}` : `Node ${process.versions.node}`;
export const machine = `${host}, ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}`;
export const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];

const MISSED = 'MISSED';
const NOT_MEASURED = 'not measured';
/** Exit code of a process with `--strict` that has missed a target. */
export const STRICT_MISS = 3;
const STRICT = '--strict';
// Taken out, so that no benchmark reads it as an argument of its own.
/** Whether a missed target is an error. */
export const isStrict = process.argv.includes(STRICT);
process.argv = process.argv.filter((argument) => argument !== STRICT);

/**
 * Prints the medians of the contestants, and by how much each differs from the first; returns the
 * medians.
 */
function reportMedians(title, contestants, figures, unit) {
  const medians = figures.map(median);
  report(
    title,
    contestants.map(([name], at) => [name, medians[at]]),
    unit,
  );
  return medians;
}

/**
 * Runs the contestants in turn, `rounds` times, and prints their medians. Each round begins with
 * another contestant: none always runs first after a garbage collection.
 * @param contestants a name and a function that returns a figure each
 */
export function compare(title, contestants, { rounds = 9, unit = 'ns' } = {}) {
  const figures = contestants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    contestants.forEach((_, offset) => {
      const at = (offset + round) % contestants.length;
      figures[at].push(contestants[at][1](round));
    });
  }
  return reportMedians(title, contestants, figures, unit);
}

/**
 * As `compare`, for functions that return promises. Its own loop: `compare` must not pay for an
 * `await`.
 */
export async function compareAsync(title, contestants, { rounds = 15, unit = 'ns' } = {}) {
  const figures = contestants.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (let offset = 0; offset < contestants.length; offset++) {
      const at = (offset + round) % contestants.length;
      // One after the other: promises that run at the same time cannot be timed apart.
      figures[at].push(await contestants[at][1](round));
    }
  }
  return reportMedians(title, contestants, figures, unit);
}

/** Prints figures and their ratio to the first. */
export function report(title, rows, unit) {
  const first = rows[0][1];
  console.log(title);
  rows.forEach(([name, figure], at) => {
    const ratio =
      at === 0
        ? ''
        : `   ${(first / figure).toFixed(2)}x better than ${rows[0][0]} (${(figure / first).toFixed(2)} of it)`;
    console.log(
      `  ${name.padEnd(36)}${figure.toFixed(figure < 100 ? 2 : 0).padStart(9)} ${unit}${ratio}`,
    );
  });
}

const amount = (value) =>
  Number.isInteger(value) ? String(value) : value.toFixed(value < 1 ? 3 : value < 100 ? 2 : 0);

/**
 * Renders a figure with its target, and whether it is met.
 * @param want the target `most` or `least`, and an `aim` in the same direction
 */
export function verdictText(title, got, unit, { most, least, aim }) {
  const must = most ?? least;
  const sign = most === undefined ? '>=' : '<=';
  const reaches = (bound) => (most === undefined ? got >= bound : got <= bound);
  const word = !Number.isFinite(got)
    ? NOT_MEASURED
    : !reaches(must)
      ? MISSED
      : aim === undefined || !reaches(aim)
        ? 'met'
        : 'met, and the aim';
  const wanted =
    `must ${sign} ${must}${aim === undefined ? '' : `, aim ${sign} ${aim}`} ${unit}`.trimEnd();
  return `  ${title.padEnd(36)}${(Number.isFinite(got) ? amount(got) : '-').padStart(9)} ${unit.padEnd(4)} ${wanted.padEnd(34)} ${word}`;
}

/**
 * Prints a figure with its target. With `--strict` among its arguments, this process fails if one is missed, or was
 * not measured.
 */
export function verdict(title, got, unit, want) {
  const text = verdictText(title, got, unit, want);
  console.log(text);
  if (isStrict && [MISSED, NOT_MEASURED].some((word) => text.endsWith(word)))
    process.exitCode = STRICT_MISS;
}

/** Returns the nanoseconds of a call of `run(i)`. */
export function timed(count, run) {
  const start = performance.now();
  for (let i = 0; i < count; i++) run(i);
  return ((performance.now() - start) * 1e6) / count;
}

/**
 * Returns the CPU time of this thread, ms; NaN outside of Linux. The kernel brings it up to date with
 * each tick of 1 to 10 ms: only for spans of many ticks.
 */
export function threadCpuMs() {
  try {
    return Number(readFileSync('/proc/thread-self/schedstat', 'latin1').split(' ')[0]) / 1e6;
  } catch {
    return NaN;
  }
}
