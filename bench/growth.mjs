// npm run bench:growth: what an operation costs as its subject grows, on Node and on Bun, each size in a process of its
// own, in CPU time. With `--strict` it fails if a cost grows faster than the size to the power of 0.4.
import { cpus } from 'node:os';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readOptions } from '../scripts/lib/options.mjs';
import { build, fail, root, run, tool } from '../scripts/lib/project.mjs';
import { plotOf } from './growth/plot.mjs';
import { HOSTS } from './subjects.mjs';

const count = (size) =>
  size >= 1e6 ? `${size / 1e6}M` : size >= 1000 ? `${size / 1000}k` : String(size);
const bytes = (size) => (size >= 2 ** 20 ? `${size / 2 ** 20} MiB` : `${size / 1024} KiB`);
/** Title, sizes, sizes of the short form, unit of the cost, and how a size is written. */
const SUBJECTS = {
  connects: [
    'connect + disconnect by id, live connections',
    [1e3, 1e4, 1e5, 1e6, 4e6],
    [1e3, 1e4, 1e5],
    'ns',
    count,
  ],
  threads: ['the same in a named index, threads', [1, 2, 4], [1, 2], 'ns', count],
  timers: ['schedule + cancel, pending timers', [1e3, 1e4, 1e5, 1e6], [1e3, 1e4], 'ns', count],
  routes: ['recordRequest, routes', [10, 100, 1e3, 1e4], [10, 1e3], 'ns', count],
  json: [
    'scanJson of a Buffer',
    [2 ** 10, 2 ** 14, 2 ** 17, 2 ** 20, 2 ** 24],
    [2 ** 10, 2 ** 17],
    'ns a KiB',
    bytes,
  ],
  limiterKeys: ['RateLimiter.take, keys', [1e3, 1e4, 1e5, 1e6, 1e7], [1e3, 1e5], 'ns', count],
  clusterKeys: [
    'admission over a cluster, seats of this process',
    [1e3, 1e4, 1e5],
    [1e3, 4e3],
    'ns',
    count,
  ],
};
/** The greatest exponent: the cost of an operation as a power of the size. Caches alone give up to 0.3. */
const MOST = 0.4;

const USAGE = `npm run bench:growth -- [options]
  --host node|bun    one of the two hosts only
  --only A,B         some subjects only: ${Object.keys(SUBJECTS).join(', ')}
  --quick            small sizes and few calls, without a verdict: shows that the command works
  --strict           fails if a cost grows too fast
  --write            puts the table into docs/growth.md, the plot into bench/results/growth.svg`;
const { host, only, quick, strict, write } = readOptions(USAGE, {
  host: { type: 'string', of: Object.keys(HOSTS) },
  only: { type: 'list', of: Object.keys(SUBJECTS), default: Object.keys(SUBJECTS) },
  quick: { type: 'boolean' },
  strict: { type: 'boolean' },
  write: { type: 'boolean' },
});
build();

const hosts = host === undefined ? Object.values(HOSTS) : [HOSTS[host]];
const measure = (command, flags, name, size) =>
  Number(
    run(
      command,
      [...flags, 'bench/growth/subjects.mjs', name, String(size), ...(quick ? ['--quick'] : [])],
      { stdout: 'pipe' },
    ),
  );
/** Returns the power of the size by which the cost grows from the first to the last size. */
const exponentOf = (rows, of) =>
  Math.log(rows.at(-1).costs[of] / rows[0].costs[of]) / Math.log(rows.at(-1).size / rows[0].size);

const measured = [];
const tooFast = [];
for (const name of only) {
  const [title, sizes, short, unit, nameOf] = SUBJECTS[name];
  const rows = (quick ? short : sizes).map((size) => ({
    size,
    // The hosts in turn at each size: both meet the same load of the machine.
    costs: Object.fromEntries(
      hosts.map(([of, command, flags]) => [of, measure(command, flags, name, size)]),
    ),
  }));
  console.log(`${title}, ${unit}`);
  for (const [of] of hosts) {
    const exponent = exponentOf(rows, of);
    const costs = rows.map(({ size, costs: all }) => `${nameOf(size)} ${all[of].toFixed(0)}`);
    console.log(`  ${of.padEnd(5)}${costs.join('   ')}   size^${exponent.toFixed(2)}`);
    // Threads are no size: more of them than CPUs share caches. Without a server, the cluster is not measured.
    if (name !== 'threads' && exponent > MOST) tooFast.push(`${of}: ${title}`);
  }
  measured.push({ title, unit, rows, nameOf });
}

if (write) {
  if (quick || host !== undefined || only.length < Object.keys(SUBJECTS).length)
    fail('--write needs all subjects on both hosts, in the long form.');
  const table = measured.map(({ title, unit, rows, nameOf }) =>
    [
      `| ${title}, ${unit} | ${rows.map(({ size }) => nameOf(size)).join(' | ')} | power of the size |`,
      `| --- | ${rows.map(() => '--- |').join(' ')} --- |`,
      ...hosts.map(
        ([of]) =>
          `| ${of} | ${rows.map(({ costs }) => costs[of].toFixed(0)).join(' | ')} | ${exponentOf(rows, of).toFixed(2)} |`,
      ),
    ].join('\n'),
  );
  const page = join(root, 'docs/growth.md');
  const text = readFileSync(page, 'utf8');
  const MARKS = /(<!-- growth -->\n)[\s\S]*(<!-- end -->)/;
  if (!MARKS.test(text)) fail('docs/growth.md has no place for the tables.');
  writeFileSync(page, text.replace(MARKS, `$1\n${table.join('\n\n')}\n\n$2`));
  run(tool('prettier'), ['--log-level', 'warn', '--write', page]);
  const caption = `CPU time, ns; lower is better. ${cpus().length} x ${cpus()[0]?.model ?? 'unknown CPU'}`;
  writeFileSync(join(root, 'bench/results/growth.svg'), plotOf(measured, caption));
}
// So few calls are cold code and the machine's load.
if (tooFast.length > 0 && !quick) {
  const sentence = `grows faster than size^${MOST.toFixed(2)}: ${tooFast.join('; ')}`;
  if (strict) fail(sentence);
  console.log(`MISSED: ${sentence}`);
}
