// npm run cluster:trial: the faults of a cluster, on real processes and a real server. Ends with a table, and with
// code 1 if a limit was passed, a seat was lost or a process ended.
import { copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { FAULTS, RULES } from '../cluster/faults.mjs';
import { SERVER } from '../cluster/redis.mjs';
import { run, worlds } from '../cluster/trial.mjs';
import { readOptions } from './lib/options.mjs';
import { root, run as command } from './lib/project.mjs';

const NOT_STARTED = 2;
const NODES = 4;
/** Runs in which the absence of a safety rule has to be found. */
const ATTEMPTS = 6;
const USAGE = `npm run cluster:trial -- [options]
  --fault A      one of the faults only, may be repeated: ${Object.keys(FAULTS).join(', ')}
  --only A,B     the same, as a list
  --seconds N    time of the fault in each run (default 8)
  --runs N       runs of each fault (default 1)
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
  given.fault ??
  (given.only.length > 0 ? given.only : undefined) ??
  (given.short ? ['none', 'kill', 'flush', 'late'] : Object.keys(FAULTS));
if (rules.length > 0) {
  // An addon of its own, in which rules can be switched off: a published one cannot.
  const build = ['build', '--locked', '--lib', '--profile', 'trial', '--features', 'cluster-trial'];
  command('cargo', build, { cwd: root });
  const addon = join(root, 'target', 'trial', 'portcullis-trial.node');
  const library = { darwin: 'libportcullis.dylib' }[process.platform] ?? 'libportcullis.so';
  copyFileSync(join(root, 'target', 'trial', library), addon);
  process.env.NAPI_RS_NATIVE_LIBRARY_PATH = addon;
}

for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => {
    void Promise.all([...worlds].map((world) => world.close())).then(() => process.exit(130));
  });
// However the harness ends, nothing of it stays: the other processes end with their standard input.
process.on('exit', () => worlds.forEach((world) => world.redis?.process?.kill('SIGKILL')));
let failures = 0;
/** Sums of the runs of each fault. */
const table = new Map();
let runs = 0;
async function once(settings, isExpected, isLast = true) {
  const seed = 1 + Math.floor(Math.random() * 1e6);
  const outcome = await run({
    seconds,
    seed,
    nodes: NODES,
    runtimes: given.runtime,
    policy: given.policy,
    ...settings,
  });
  const { fault, without, grants, most, over, strikes, losses, drift, slowest, problems } = outcome;
  const isGood = isExpected ? problems.length > 0 : problems.length === 0;
  if (isGood || isLast) runs++;
  if (!isGood && isLast) failures++;
  if (without === undefined) {
    const line = table.get(fault) ?? { runs: 0, good: 0, grants: 0, strikes: 0, over: [0, 0, 0] };
    line.runs++;
    line.good += isGood ? 1 : 0;
    line.grants += grants;
    line.strikes += strikes;
    const passed = [over.total, over.user, over.address];
    line.over = line.over.map((most, at) => Math.max(most, passed[at]));
    table.set(fault, line);
  }
  const title = without === undefined ? fault : `${fault} without ${without}`;
  console.log(
    `${isGood ? 'ok  ' : isLast ? 'FAIL' : '...'.padEnd(4)} ${title.padEnd(26)} ${String(grants).padStart(6)} grants, ${String(strikes).padStart(2)} strikes, most ${most} of 400, over ${over.total}/${over.user}/${over.address}, lost ${losses}, drift ${drift}, slowest ${slowest} ms`,
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

for (let round = 0; round < given.runs; round++) {
  if (rules.length > 0) for (const without of rules) await untilFound(without);
  else for (const fault of faults) await once({ fault }, false);
}
if (table.size > 0 && given.runs > 1) {
  console.log('fault          as expected     grants  strikes  most over total/user/address');
  for (const [fault, line] of table)
    console.log(
      `${fault.padEnd(14)} ${`${line.good} of ${line.runs}`.padEnd(12)} ${String(line.grants).padStart(9)} ${String(line.strikes).padStart(8)}  ${line.over.join('/')}`,
    );
}
console.log(`${runs - failures} of ${runs} runs as expected`);
process.exit(failures === 0 ? 0 : 1);
