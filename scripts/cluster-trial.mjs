// npm run cluster:trial: the faults of a cluster, on real processes and a real server. Ends with a table, and with
// code 1 if a limit was passed, a seat was lost or a process ended.
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAULTS, RULES } from '../cluster/faults.mjs';
import { SERVER } from '../cluster/redis.mjs';
import { BEAT_MS, LEASE_MS, LIMITS, run, worlds } from '../cluster/trial.mjs';
import { readOptions } from './lib/options.mjs';
import { root, run as command } from './lib/project.mjs';

const NOT_STARTED = 2;
const NODES = 4;
/** Runs in which the absence of a safety rule has to be found. */
const ATTEMPTS = 6;
const TABLE = /(<!-- table: cluster:trial -->\n)[^]*(<!-- end of table -->)/;
const USAGE = `npm run cluster:trial -- [options]
  --fault A      one of the faults only, may be repeated: ${Object.keys(FAULTS).join(', ')}
  --only A,B     the same, as a list
  --seconds N    time of the fault in each run (default 8)
  --runs N       runs of each fault (default 1)
  --jobs N       runs at the same time (default 1)
  --operations N a run without a fault, that ends after N operations
  --nodes N      processes of each run (default ${NODES})
  --write        writes the table of faults into docs/cluster.md
  --policy A     share, open or closed (default closed)
  --rules        switches one safety rule off after the other, in an addon that it builds: each must be missed
  --rule A       one of the rules only, may be repeated: ${Object.keys(RULES).join(', ')}
  --runtime A    node or bun, may be repeated (default both)
  --short        four faults of 4 seconds
  --verbose      prints the notes of all processes of a failed run`;
const given = readOptions(
  USAGE,
  {
    fault: { type: 'string', multiple: true, of: Object.keys(FAULTS) },
    only: { type: 'list', of: Object.keys(FAULTS), default: [] },
    seconds: { type: 'number', above: 0, most: 3600 },
    runs: { type: 'integer', least: 1, most: 1000, default: 1 },
    jobs: { type: 'integer', least: 1, most: 64, default: 1 },
    operations: { type: 'integer', least: 1, most: 1e9 },
    nodes: { type: 'integer', least: 1, most: 64, default: NODES },
    write: { type: 'boolean', default: false },
    policy: { type: 'string', of: ['share', 'open', 'closed'], default: 'closed' },
    rules: { type: 'boolean', default: false },
    rule: { type: 'string', multiple: true, of: Object.keys(RULES) },
    runtime: { type: 'string', multiple: true, of: ['node', 'bun'], default: ['node', 'bun'] },
    short: { type: 'boolean', default: false },
    verbose: { type: 'boolean', default: false },
  },
  NOT_STARTED,
);

if (SERVER === undefined) {
  console.log('skipped: neither redis-server nor valkey-server is on the PATH');
  process.exit(0);
}
const seconds = given.seconds ?? (given.short ? 4 : 8);
const rules = given.rule ?? (given.rules ? Object.keys(RULES) : []);
const faults =
  given.operations !== undefined
    ? ['none']
    : (given.fault ??
      (given.only.length > 0 ? given.only : undefined) ??
      (given.short ? ['none', 'kill', 'flush', 'late'] : Object.keys(FAULTS)));
if (rules.length > 0) {
  // An addon of its own, in which rules can be switched off: a published one cannot.
  const build = ['build', '--locked', '--lib', '--profile', 'trial', '--features', 'cluster-trial'];
  command('cargo', build, { cwd: root });
  const addon = join(root, 'target', 'trial', 'portcullis-trial.node');
  const library = { darwin: 'libportcullis.dylib' }[process.platform] ?? 'libportcullis.so';
  copyFileSync(join(root, 'target', 'trial', library), addon);
  process.env.NAPI_RS_NATIVE_LIBRARY_PATH = addon;
}

// However the harness ends, nothing of it stays: the other processes end with their standard input.
process.on('exit', () => worlds.forEach((world) => world.redis?.process?.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    work.length = 0;
    tell();
    void Promise.all([...worlds].map((world) => world.close())).then(() => process.exit(130));
  });
let failures = 0;
/** Runs that have not begun. */
const work = [];
/** Sums of the runs of each fault. */
const table = new Map(faults.map((fault) => [fault, undefined]));
let runs = 0;
const KINDS = ['total', 'user', 'address', 'anonymous'];

/** Adds a run to the sums of its fault. */
function add(outcome, isGood) {
  const zero = {
    runs: 0,
    good: 0,
    grants: 0,
    moves: 0,
    takeovers: 0,
    strikes: 0,
    lost: 0,
    backMs: 0,
  };
  const line = table.get(outcome.fault) ?? { ...zero, over: {} };
  line.runs++;
  line.good += isGood ? 1 : 0;
  for (const field of ['grants', 'moves', 'takeovers', 'strikes']) line[field] += outcome[field];
  for (const field of ['lost', 'backMs']) line[field] = Math.max(line[field], outcome[field]);
  for (const kind of KINDS) line.over[kind] = Math.max(line.over[kind] ?? 0, outcome.over[kind]);
  table.set(outcome.fault, line);
}

async function once(settings, isExpected, isLast = true) {
  const seed = 1 + Math.floor(Math.random() * 1e6);
  const outcome = await run({
    seconds,
    seed,
    nodes: given.nodes,
    runtimes: given.runtime,
    policy: given.policy,
    operations: given.operations,
    ...settings,
  });
  const { fault, without, grants, most, over, strikes, losses, drift, slowest, problems } = outcome;
  const isGood = isExpected ? problems.length > 0 : problems.length === 0;
  if (isGood || isLast) runs++;
  if (!isGood && isLast) failures++;
  if (without === undefined) add(outcome, isGood);
  const title = without === undefined ? fault : `${fault} without ${without}`;
  const passed = KINDS.map((kind) => over[kind]).join('/');
  console.log(
    `${isGood ? 'ok  ' : isLast ? 'FAIL' : '...'.padEnd(4)} ${title.padEnd(26)} ${String(grants).padStart(6)} grants, ${outcome.moves} logins, ${outcome.takeovers} takeovers, ${String(strikes).padStart(2)} strikes, most ${most} of ${LIMITS.total}, over ${passed}, lost ${outcome.lost}, back after ${outcome.backMs} ms; losses ${losses}, drift ${drift}, slowest ${slowest} ms`,
  );
  if (given.operations !== undefined)
    console.log(
      `     ${outcome.operations.toLocaleString('en')} operations of ${given.nodes} processes in ${(outcome.workedMs / 1e3).toFixed(0)} s, ${outcome.seen.refusals.toLocaleString('en')} of them refused`,
    );
  for (const problem of problems)
    console.log(`       ${isExpected ? 'found' : 'seed ' + seed}: ${problem}`);
  if (isExpected && problems.length === 0) console.log('       no violation was found');
  if (given.verbose && !isGood && isLast) {
    const notes = [
      ...outcome.seen.notes,
      ...outcome.world.events.map(([at, text]) => [at, '*', text]),
    ];
    const from = outcome.seen.firstAt ?? 0;
    for (const [at, name, text] of notes.toSorted((a, b) => a[0] - b[0]))
      console.log(`       ${((at - from) / 1000).toFixed(3)} ${name} ${text}`);
    console.log(JSON.stringify(outcome.reports, null, 1));
  }
  return isGood;
}

/** A violation needs the right moment: it is looked for in several runs. */
async function untilFound(without) {
  for (let left = ATTEMPTS; left > 0; left--)
    if (await once({ fault: RULES[without], without }, true, left === 1)) return;
}

/** Returns the row of each fault, in Markdown. */
function rows() {
  const count = (number) => Math.round(number).toLocaleString('en');
  const all = new Map();
  for (const [fault, line] of table) {
    if (line === undefined) continue;
    const over = KINDS.map((kind) => line.over[kind]).join(' / ');
    const back = line.strikes === 0 ? '–' : `${(line.backMs / 1e3).toFixed(1)} s`;
    const work = [line.grants, line.moves, line.takeovers, line.strikes].map(count).join(' | ');
    const row = `| \`${fault}\` | ${line.good} of ${line.runs} | ${work} | ${over} | ${line.lost} | ${back} |`;
    all.set(fault, row);
  }
  return all;
}

/** @param all the row of each fault */
function markdown(all) {
  const version = spawnSync(SERVER, ['--version'], { encoding: 'utf8' }).stdout.trim();
  const server = /^(\S+) server v=(\S+)/i.exec(version);
  const listed = Object.keys(FAULTS).flatMap((fault) => all.get(fault) ?? []);
  return `
${server === null ? version : `${server[1]} ${server[2]}`}, ${given.nodes} processes on ${given.runtime.join(' and ')}, \`onUnreachable: '${given.policy}'\`, lease ${LEASE_MS / 1e3} s, beat ${BEAT_MS / 1e3} s:

| fault | runs that passed | admissions | logins | takeovers | strikes | over total / user / address / anonymous | seats lost | seats back after, at most |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
${listed.join('\n')}

`;
}

/** Prints the table, and writes it; rows of other faults stay. */
function tell() {
  if (rules.length > 0 || given.runs === 1) return;
  console.log(markdown(rows()));
  if (!given.write) return;
  const path = join(root, 'docs', 'cluster.md');
  const before = readFileSync(path, 'utf8');
  const [written] = TABLE.exec(before) ?? [''];
  const earlier = [...written.matchAll(/^\| `([\w-]+)` .*$/gm)].map(([row, fault]) => [fault, row]);
  const text = markdown(new Map([...earlier, ...rows()]));
  writeFileSync(
    path,
    before.replace(TABLE, (_, from, to) => `${from}${text}${to}`),
  );
  command('npx', ['prettier', '--write', '--log-level', 'warn', path], { cwd: root });
}

for (let round = 0; round < given.runs; round++) {
  if (rules.length > 0) for (const without of rules) work.push(() => untilFound(without));
  else for (const fault of faults) work.push(() => once({ fault }, false));
}
async function lane() {
  for (let next = work.shift(); next !== undefined; next = work.shift()) await next();
}
await Promise.all(Array.from({ length: given.jobs }, lane));
tell();
console.log(`${runs - failures} of ${runs} runs as expected`);
process.exit(failures === 0 ? 0 : 1);
