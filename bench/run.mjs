// npm run bench: measures every figure of docs/benchmarks.md, on Node and on Bun, each subject in a
// process of its own. Builds the stale parts first.
import { readOptions } from '../scripts/lib/options.mjs';
import { build, run } from '../scripts/lib/project.mjs';
import { report } from './compare.mjs';
import { HOSTS, SUBJECTS } from './subjects.mjs';

const MEMORY = ['memory', 'timer-memory'];
// The server of this subject runs on Bun, its clients on Node.
const SERVER = 'server';
const ALL = [...Object.keys(SUBJECTS), ...MEMORY, SERVER];
const USAGE = `npm run bench -- [options]
  --host node|bun    one of the two hosts only
  --only A,B         some subjects only: ${ALL.join(', ')}`;

const { host, only: wanted } = readOptions(USAGE, {
  host: { type: 'string', of: Object.keys(HOSTS) },
  only: { type: 'list', of: ALL, default: ALL },
});
build();
for (const [name, command, flags] of host === undefined ? Object.values(HOSTS) : [HOSTS[host]]) {
  for (const [subject, runs] of Object.entries(SUBJECTS)) {
    if (wanted.includes(subject))
      for (const args of runs) run(command, [...flags, `bench/${subject}.mjs`, ...args]);
  }
  // The same by bun:ffi.
  if (name === 'Bun' && wanted.includes('connections'))
    for (const args of SUBJECTS.connections)
      run(command, ['bench/connections.mjs', ...args], {
        env: { ...process.env, PORTCULLIS_FFI: '1' },
      });
  const bytes = (...args) => Number(run(command, [...flags, ...args], { stdout: 'pipe' }));
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
if (wanted.includes(SERVER) && host !== 'node') run(process.execPath, ['bench/server.mjs']);
