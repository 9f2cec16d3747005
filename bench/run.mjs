// npm run bench: every figure of docs/benchmarks.md, on Node and on Bun, one process a subject.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { report } from './compare.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const hosts = [
  ['Node', process.execPath, ['--expose-gc']],
  ['Bun', 'node_modules/.bin/bun', []],
];
const run = (command, args, stdio) => {
  const { status, stdout } = spawnSync(command, args, { cwd: root, encoding: 'utf8', stdio: ['ignore', stdio, 'inherit'] });
  if (status !== 0) process.exit(status ?? 1);
  return stdout;
};
for (const [name, command, flags] of hosts) {
  for (const args of [
    ['bench/load-time.mjs', '--rounds', '11'],
    ['bench/connections.mjs'],
    ['bench/connections.mjs', '1000000'],
    ['bench/sweep.mjs'],
    ['bench/timers.mjs'],
    ['bench/resources.mjs'],
    ['bench/metrics.mjs'],
    ...['async', 'sync', 'always', 'netted', 'execute'].map((subject) => ['bench/middleware.mjs', subject]),
    ['bench/json.mjs'],
    ['bench/headers.mjs'],
    ['bench/tokens.mjs'],
  ]) {
    if (existsSync(`${root}/${args[0]}`)) run(command, [...flags, ...args], 'inherit');
  }
  const bytes = (...args) => Number(run(command, [...flags, ...args], 'pipe'));
  report(
    `${name}: resident memory per connection, 1,000,000 of them, every IP and user distinct`,
    ['twin', 'portcullis'].map((contestant) => [contestant, bytes('bench/memory.mjs', contestant)]),
    'B',
  );
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
// Its server runs on Bun, its clients here.
if (existsSync(`${root}/bench/server.mjs`)) run(process.execPath, ['bench/server.mjs'], 'inherit');
