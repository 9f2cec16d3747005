// npm run bench: every figure of docs/benchmarks.md, on Node and on Bun, one process a subject. Builds what is stale.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { report } from './compare.mjs';

const HOSTS = {
  node: ['Node', process.execPath, ['--expose-gc']],
  bun: ['Bun', 'node_modules/.bin/bun', []],
};
/** The arguments of each run of a subject, in the order they run. */
const SUBJECTS = {
  'load-time': [['--rounds', '11']],
  connections: [[], ['1000000']],
  sweep: [[]],
  timers: [[]],
  resources: [[]],
  metrics: [[]],
  middleware: [['async'], ['sync'], ['always'], ['netted'], ['execute']],
  json: [[]],
  headers: [[]],
  tokens: [[]],
};
const MEMORY = ['memory', 'timer-memory'];
// Its server runs on Bun, its clients on Node.
const SERVER = 'server';
const ALL = [...Object.keys(SUBJECTS), ...MEMORY, SERVER];
const USAGE = `npm run bench -- [options]
  --host node|bun    one of the two hosts only
  --only A,B         some subjects only: ${ALL.join(', ')}`;

const root = fileURLToPath(new URL('..', import.meta.url));
const fail = (sentence) => {
  console.error(`portcullis: ${sentence}.\n\n${USAGE}`);
  process.exit(1);
};
const given = (() => {
  try {
    return parseArgs({
      options: { host: { type: 'string' }, only: { type: 'string' }, help: { type: 'boolean' } },
    }).values;
  } catch (error) {
    return fail(error.message);
  }
})();
if (given.help) {
  console.log(USAGE);
  process.exit(0);
}
if (given.host !== undefined && !Object.hasOwn(HOSTS, given.host))
  fail(`--host must be node or bun, not "${given.host}"`);
const wanted = given.only?.split(',') ?? ALL;
for (const name of wanted)
  if (!ALL.includes(name)) fail(`--only must be of ${ALL.join(', ')}, not "${name}"`);

const run = (command, args, stdio) => {
  const { status, stdout } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', stdio, 'inherit'],
  });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
};
run(process.execPath, ['scripts/build.mjs'], 'inherit');
for (const [name, command, flags] of given.host === undefined
  ? Object.values(HOSTS)
  : [HOSTS[given.host]]) {
  for (const [subject, runs] of Object.entries(SUBJECTS)) {
    if (wanted.includes(subject))
      for (const args of runs) run(command, [...flags, `bench/${subject}.mjs`, ...args], 'inherit');
  }
  const bytes = (...args) => Number(run(command, [...flags, ...args], 'pipe'));
  if (wanted.includes('memory')) {
    report(
      `${name}: resident memory per connection, 1,000,000 of them, every IP and user distinct`,
      ['twin', 'portcullis'].map((contestant) => [
        contestant,
        bytes('bench/memory.mjs', contestant),
      ]),
      'B',
    );
  }
  if (wanted.includes('timer-memory')) {
    report(
      `${name}: memory of a pending timer, handle not kept`,
      [
        ['host', bytes('bench/timer-memory.mjs', 'host')],
        ['portcullis, context: none', bytes('bench/timer-memory.mjs', 'none')],
        ['portcullis, context: capture', bytes('bench/timer-memory.mjs', 'capture')],
      ],
      'B',
    );
  }
}
if (wanted.includes(SERVER) && given.host !== 'node')
  run(process.execPath, ['bench/server.mjs'], 'inherit');
