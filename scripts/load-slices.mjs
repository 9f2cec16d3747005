// npm run load:slices: portcullis with every feature on beside a bare server, both live, in slices
// of about a second in turn. Prints medians of paired ratios of CPU time, with 95 % intervals.
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { interval, judgeMost } from '../load/interval.mjs';
import { arePinned, filesProblem } from '../load/processes.mjs';
import { HOSTS } from '../load/settings.mjs';
import { measureParts } from '../load/parts.mjs';
import { measureSlices } from '../load/slices.mjs';
import { columns, median } from '../load/verdict.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail, root } from './lib/project.mjs';

const FULL = {
  connections: 10_000,
  rounds: 20,
  memoryPairs: 7,
  sliceMs: 1000,
  rate: 20_000,
  refusals: 10_000,
  settleMs: 500,
  idleMs: 2000,
};
/** For the tests: too short for any figure. */
const SMOKE = {
  connections: 50,
  rounds: 2,
  memoryPairs: 1,
  sliceMs: 100,
  rate: 500,
  refusals: 50,
  settleMs: 50,
  idleMs: 0,
};
const USAGE = `npm run load:slices -- [options]
  --host bun|node    one of the two hosts only
  --connections N    live clients of each server, 20 to 60000 (default ${FULL.connections})
  --parts            what each feature adds to a connect and to a message, by leaving out one after the other
  --rounds N         pairs of slices, 2 to 999 (default ${FULL.rounds}; a minute for two)
  --smoke            the shortest form, for the tests
  --tree FOLDER      another checkout, built: its portcullis stands beside this one
  --results FOLDER   where the JSON goes (default bench/results; none with --smoke and --tree)
  --strict           fails if a target is missed`;
const given = readOptions(USAGE, {
  host: { type: 'string', of: HOSTS },
  connections: { type: 'integer', least: 20, most: 60_000 },
  rounds: { type: 'integer', least: 2, most: 999 },
  parts: { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  tree: { type: 'string' },
  results: { type: 'string' },
  strict: { type: 'boolean', default: false },
});
const settings = { ...(given.smoke ? SMOKE : FULL) };
for (const name of ['connections', 'rounds'])
  if (given[name] !== undefined) settings[name] = given[name];
// Ratios to another checkout are no figures of this one.
const results =
  given.results ?? (given.smoke || given.tree !== undefined ? undefined : 'bench/results');
const tree = given.tree === undefined ? undefined : resolve(given.tree);
if (tree !== undefined && given.parts)
  fail('--parts compares no other checkout: leave --tree out.');
if (tree !== undefined && !existsSync(join(tree, 'dist', 'index.js')))
  fail(`${tree} has no dist/index.js: run "npm run build" there first.`);
const NAMES = ['bare', 'least', ...(tree === undefined ? [] : ['former']), 'portcullis'];
settings.tree = tree;

if (process.platform !== 'linux')
  fail('clients need the many loopback addresses of Linux: run it there.');
const problem = filesProblem(settings.connections);
if (problem !== undefined) fail(problem);
build();

const cpuOf = (name, slice) => (round) => round[name][slice].cpuMicros;
const wallOf = (name) => (round) => 1e6 / round[name].connect.perSecond;
/** A row that compares portcullis with bare in one slice. */
const beside = (slice, words, bounds = {}) => ({
  title: `CPU of a ${words}, of bare`,
  slice,
  ours: cpuOf('portcullis', slice),
  bares: cpuOf('bare', slice),
  unit: 'us',
  ...bounds,
});
/** The rows of a refusal: of an accepted connect of bare, and of bare's own refusal. */
const refusal = (slice, words) => [
  {
    title: `CPU of a refusal, ${words}, of an accepted connect of bare`,
    slice,
    ours: cpuOf('portcullis', slice),
    bares: cpuOf('bare', 'connect'),
    unit: 'us',
    most: 0.7,
    aim: 0.5,
  },
  {
    title: `CPU of a refusal, ${words}, of a refusal by bare`,
    slice,
    ours: cpuOf('portcullis', slice),
    bares: cpuOf('bare', 'refused'),
    unit: 'us',
  },
];
/** Ratios to bare, with the most that each may be. */
const TARGETS = [
  beside('connect', 'connect', { most: 1 / 0.88, aim: 1 / 0.95 }),
  {
    title: 'wall clock of a connect, of bare',
    slice: 'connect',
    ours: wallOf('portcullis'),
    bares: wallOf('bare'),
    unit: 'us',
    most: 1 / 0.88,
    aim: 1 / 0.95,
  },
  beside('paced', `message, ${settings.rate.toLocaleString('en-US')} a second`, {
    most: 1.05,
    aim: 1.02,
  }),
  // Clients that wait for a busier server sleep more, and the server wakes them: of no target.
  beside('messages', 'message, as many as it answers'),
  beside('leave', 'disconnect'),
  ...refusal('full', 'address full'),
  ...refusal('forged', 'forged token'),
  ...refusal('banned', 'banned address'),
  {
    title: 'CPU of a refusal by bare, of its accepted connect: the floor',
    slice: 'connect',
    ours: cpuOf('bare', 'refused'),
    bares: cpuOf('bare', 'connect'),
    unit: 'us',
  },
  {
    title: 'CPU of a connect with the least guard, of bare: the floor',
    slice: 'connect',
    ours: cpuOf('least', 'connect'),
    bares: cpuOf('bare', 'connect'),
    unit: 'us',
  },
  {
    title: 'wall clock of a connect with the least guard, of bare: the floor',
    slice: 'connect',
    ours: wallOf('least'),
    bares: wallOf('bare'),
    unit: 'us',
  },
  {
    title: 'CPU of a connect, of one with the least guard',
    slice: 'connect',
    ours: cpuOf('portcullis', 'connect'),
    bares: cpuOf('least', 'connect'),
    unit: 'us',
  },
  ...(tree === undefined
    ? []
    : [
        ['connect', 'connect'],
        ['paced', 'message'],
      ].map(([slice, words]) => ({
        title: `CPU of a ${words}, of the other checkout`,
        slice,
        ours: cpuOf('portcullis', slice),
        bares: cpuOf('former', slice),
        unit: 'us',
      }))),
];

function judged({ title, ours, bares, unit, most, aim }, rounds) {
  const ratio = interval(rounds.map((round) => ours(round) / bares(round)));
  return {
    title,
    unit,
    bare: median(rounds.map(bares)),
    portcullis: median(rounds.map(ours)),
    ratio,
    most,
    aim,
    verdict: most === undefined ? '' : judgeMost(ratio, most),
  };
}

const bound = (value) => (value === undefined ? '' : `<= ${value.toFixed(2)}`);
const tableOf = (rows) =>
  columns([
    ['', 'base', 'measured', 'ratio', '95 %', 'must', 'aim', ''],
    ...rows.map(({ title, unit, bare, portcullis, ratio, most, aim, verdict }) => [
      title,
      `${bare.toFixed(1)} ${unit}`,
      `${portcullis.toFixed(1)} ${unit}`,
      `${ratio.median.toFixed(3)} x`,
      `${ratio.low.toFixed(3)} to ${ratio.high.toFixed(3)}`,
      bound(most),
      bound(aim),
      verdict,
    ]),
  ]);

/** The most that a connection may take beyond that of bare, and the aim; KB. */
const MEMORY = { most: 0.6, aim: 0.4 };
function memoryText(memory, live) {
  const beyond = interval(memory.map(({ bare, portcullis }) => (portcullis - bare) / 1024));
  const floor = interval(memory.map(({ bare, least }) => (least - bare) / 1024));
  const of = (name) => (median(memory.map((pair) => pair[name])) / 1024).toFixed(2);
  const liveOf = (name) => ((live[name] - live.bare) / 1024).toFixed(2);
  return {
    beyond,
    text: `memory of an idle connection: bare ${of('bare')} KB, portcullis ${of('portcullis')} KB; beyond bare ${beyond.median.toFixed(2)} KB (95 %: ${beyond.low.toFixed(2)} to ${beyond.high.toFixed(2)}), must <= ${MEMORY.most}, aim <= ${MEMORY.aim}: ${judgeMost(beyond, MEMORY.most)}; the least guard beyond bare ${floor.median.toFixed(2)} KB (${floor.low.toFixed(2)} to ${floor.high.toFixed(2)})
live memory beyond bare, after a garbage collection: ${liveOf('portcullis')} KB, the least guard ${liveOf('least')} KB, bare's own ${(live.bare / 1024).toFixed(2)} KB`,
  };
}

console.log(
  `${settings.connections} connections of each server, ${settings.rounds} rounds; ${arePinned ? 'servers on one core, clients on the other' : 'servers and clients share all cores'}`,
);
const partsTable = (operation, rows) =>
  columns([
    [`CPU of a ${operation}`, 'us', '95 %'],
    ...rows.map(({ title, micros: { median, low, high } }) => [
      title,
      median.toFixed(1),
      `${low.toFixed(1)} to ${high.toFixed(1)}`,
    ]),
  ]);

const verdicts = [];
for (const host of given.host === undefined ? HOSTS : [given.host]) {
  const isTerminal = process.stdout.isTTY === true;
  const tell = (text) => isTerminal && process.stdout.write(`\r\x1b[K${host} ${text}`);
  if (given.parts) {
    const parts = await measureParts(host, settings, tell);
    if (isTerminal) process.stdout.write('\r\x1b[K');
    console.log(`\n${host}`);
    for (const [operation, rows] of Object.entries(parts))
      console.log(`\n${partsTable(operation, rows)}`);
    continue;
  }
  const { rounds, memory, live } = await measureSlices(host, NAMES, settings, tell);
  if (isTerminal) process.stdout.write('\r\x1b[K');
  // A machine without an address that can be banned has no slice of bans.
  const rows = TARGETS.filter(({ slice }) => slice in rounds[0].portcullis).map((target) =>
    judged(target, rounds),
  );
  const { beyond, text } = memoryText(memory, live);
  verdicts.push(...rows.map(({ verdict }) => verdict), judgeMost(beyond, MEMORY.most));
  console.log(`\n${host}\n\n${tableOf(rows)}\n${text}`);
  if (results === undefined) continue;
  mkdirSync(resolve(root, results), { recursive: true });
  writeFileSync(
    join(resolve(root, results), `load-slices-${host}.json`),
    `${JSON.stringify({ host, settings: { ...settings, tree: undefined }, rows, beyondKb: beyond, liveBytes: live }, null, 2)}\n`,
  );
}
if (settings.connections < 1000) console.log('Short slices: these are no figures to quote.');
if (given.strict && verdicts.includes('MISSED')) process.exitCode = 1;
