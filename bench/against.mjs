// npm run bench:against: runs the benchmarks of this tree and of another one in turn, and prints the ratio
// of each figure with its 95 % interval. A figure below 1.00 is better here.
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { readOptions } from '../scripts/lib/options.mjs';
import { build, execute, fail, root } from '../scripts/lib/project.mjs';
import { machine, median } from './compare.mjs';
import { HOSTS, SUBJECTS } from './subjects.mjs';

/** Subjects that print many rows in a few seconds. */
const DEFAULT = ['connections', 'timers', 'metrics', 'middleware', 'json', 'headers', 'tokens'];
const USAGE = `npm run bench:against -- --tree FOLDER [options]
  --tree FOLDER      another checkout, built
  --rounds N         runs of each tree, 3 to 30 (default 7)
  --host node|bun    the host (default node)
  --only A,B         some subjects only: ${Object.keys(SUBJECTS).join(', ')}
  --most RATIO       an interval that lies above it fails (default 1.03)`;

/** The quantile 0.975 of Student's t for 2 to 29 degrees of freedom. */
const T = [
  4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.16, 2.145, 2.131,
  2.12, 2.11, 2.101, 2.093, 2.086, 2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045,
];
/** A row as `report()` of compare.mjs prints it: name, figure, unit. */
const ROW = /^ {2}(\S.*?) +([\d.]+) (ns|us|ms|B)(?: |$)/;

const { tree, rounds, host, only, most } = readOptions(USAGE, {
  tree: { type: 'string' },
  rounds: { type: 'integer', least: 3, most: 30, default: 7 },
  host: { type: 'string', of: Object.keys(HOSTS), default: 'node' },
  only: { type: 'list', of: Object.keys(SUBJECTS), default: DEFAULT },
  most: { type: 'number', above: 0, most: 10, default: 1.03 },
});
if (tree === undefined) fail(`--tree is missing.\n\n${USAGE}`);
const other = resolve(tree);
if (!existsSync(join(other, 'dist'))) fail(`${other} has no dist: build it first.`);

/** Returns the rows of one run: their names, their figures, and the title above each. */
function rowsOf(cwd, subject, args) {
  const [, command, flags] = HOSTS[host];
  const output = execute(command, [...flags, `bench/${subject}.mjs`, ...args], {
    cwd,
    stdout: 'pipe',
  });
  let title = '';
  const rows = [];
  for (const line of output.split('\n')) {
    const [, name, figure, unit] = ROW.exec(line) ?? [];
    if (name !== undefined) rows.push({ title, name, figure: Number(figure), unit });
    else if (!line.startsWith(' ')) title = line;
  }
  return rows;
}

/** Returns the geometric mean of paired ratios, with its 95 % interval. */
function intervalOf(ratios) {
  const logs = ratios.map(Math.log);
  const mean = logs.reduce((sum, log) => sum + log, 0) / logs.length;
  const variance = logs.reduce((sum, log) => sum + (log - mean) ** 2, 0) / (logs.length - 1);
  const half = T[logs.length - 3] * Math.sqrt(variance / logs.length);
  return [mean, mean - half, mean + half].map(Math.exp);
}

build();
console.log(`${machine}; host ${host}; ${rounds} rounds of each tree, in turn\n`);
let slower = 0;
for (const subject of only) {
  for (const args of SUBJECTS[subject]) {
    const runs = [[], []];
    for (let round = 0; round < rounds; round++) {
      // The tree that begins changes with each round.
      for (const at of round % 2 === 0 ? [0, 1] : [1, 0])
        runs[at].push(rowsOf([other, root][at], subject, args));
    }
    const [theirs, ours] = runs;
    if (theirs[0].length !== ours[0].length)
      fail(`${subject} prints ${theirs[0].length} rows there, ${ours[0].length} here.`);
    console.log(`${[subject, ...args].join(' ')}`);
    ours[0].forEach(({ title, name, unit }, at) => {
      const figures = [theirs, ours].map((list) => list.map((rows) => rows[at].figure));
      const [ratio, low, high] = intervalOf(figures[1].map((here, run) => here / figures[0][run]));
      const isSlower = low >= most;
      if (isSlower) slower++;
      if (at === 0 || ours[0][at - 1].title !== title) console.log(` ${title}`);
      const [there, here] = figures.map((list) => median(list));
      console.log(
        `  ${name.padEnd(36)}${`${there}`.padStart(9)} -> ${`${here}`.padStart(9)} ${unit}   ${ratio.toFixed(3)} (${low.toFixed(3)} to ${high.toFixed(3)})${isSlower ? '   SLOWER' : ''}`,
      );
    });
  }
}
console.log(`\n${slower} figures are slower by more than ${most}`);
process.exitCode = slower === 0 ? 0 : 1;
