// npm run bench: measures every figure of docs/benchmarks.md, on Node and on Bun, each subject in a
// process of its own. Builds the stale parts first. With `--strict` it fails if a target is missed, or
// could not be measured.
import { readOptions } from '../scripts/lib/options.mjs';
import { build, execute, run } from '../scripts/lib/project.mjs';
import { isStrict, report, STRICT_MISS, verdict } from './compare.mjs';
import { HOSTS, SUBJECTS } from './subjects.mjs';

/** Most memory of a connection, of the twin's. */
const MEMORY_TARGETS = { Node: { most: 0.5, aim: 0.45 }, Bun: { most: 0.4, aim: 0.33 } };
const MEMORY = ['memory', 'timer-memory'];
// The server of this subject runs on Bun, its clients on Node.
const SERVER = 'server';
const ALL = [...Object.keys(SUBJECTS), ...MEMORY, SERVER];
const USAGE = `npm run bench -- [options]
  --host node|bun    one of the two hosts only
  --only A,B         some subjects only: ${ALL.join(', ')}
  --strict           fails if a target is missed or could not be measured, once all subjects have run`;

const { host, only: wanted } = readOptions(USAGE, {
  host: { type: 'string', of: Object.keys(HOSTS) },
  only: { type: 'list', of: ALL, default: ALL },
  // Read by `compare.mjs`, for every benchmark.
  strict: { type: 'boolean' },
});
build();

/** Runs a subject, and goes on if it has missed a target. */
function measure(command, args, options) {
  try {
    execute(command, isStrict ? [...args, '--strict'] : args, options);
  } catch (error) {
    process.exitCode = error.exitCode;
    if (error.exitCode !== STRICT_MISS) process.exit();
  }
}

for (const [name, command, flags] of host === undefined ? Object.values(HOSTS) : [HOSTS[host]]) {
  for (const [subject, runs] of Object.entries(SUBJECTS)) {
    if (wanted.includes(subject))
      for (const args of runs) measure(command, [...flags, `bench/${subject}.mjs`, ...args]);
  }
  // The same by bun:ffi.
  if (name === 'Bun' && wanted.includes('connections'))
    for (const args of SUBJECTS.connections)
      measure(command, ['bench/connections.mjs', ...args], {
        env: { ...process.env, PORTCULLIS_FFI: '1' },
      });
  const bytes = (...args) => Number(run(command, [...flags, ...args], { stdout: 'pipe' }));
  if (wanted.includes('memory')) {
    const rows = ['twin', 'portcullis'].map((contestant) => [
      contestant,
      bytes('bench/memory.mjs', contestant),
    ]);
    report(
      `${name}: resident memory per connection, 1,000,000 of them, every IP and user distinct`,
      rows,
      'B',
    );
    const [[, twinBytes], [, ownBytes]] = rows;
    verdict('of the twin', ownBytes / twinBytes, 'x', MEMORY_TARGETS[name]);
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
if (wanted.includes(SERVER) && host !== 'node') measure(process.execPath, ['bench/server.mjs']);
