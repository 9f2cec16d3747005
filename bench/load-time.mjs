// Measures the size of the addon, and the import of portcullis in a fresh process.
// Run: node bench/load-time.mjs [--rounds 31]
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { readOptions } from '../scripts/lib/options.mjs';
import { root, tool } from '../scripts/lib/project.mjs';
import { verdict } from './compare.mjs';

const { rounds } = readOptions(
  'node bench/load-time.mjs [options]\n  --rounds N    processes for each figure, 1 to 1000 (default 31)',
  { rounds: { type: 'integer', least: 1, most: 1000, default: 31 } },
);
const entry = pathToFileURL(join(root, 'dist', 'index.js')).href;
const addon = readdirSync(join(root, 'native')).find((name) => name.endsWith('.node'));
const bun = tool('bun');
if (addon === undefined || !existsSync(join(root, 'dist', 'index.js')))
  throw new Error('run "npm run build" first');

const timedImport = (path) =>
  `const t = performance.now(); await import(${JSON.stringify(path)}); console.log(performance.now() - t)`;
const SOURCES = {
  'all of portcullis': timedImport(entry),
  'the same, one file for each module': timedImport(
    pathToFileURL(join(root, 'dist', 'entries', 'index.js')).href,
  ),
  'the addon alone': `const { createRequire } = await import('node:module'); const load = createRequire(${JSON.stringify(entry)}); const t = performance.now(); load('../native/${addon}'); console.log(performance.now() - t)`,
};

function measured(command, source) {
  const args =
    command === process.execPath ? ['--input-type=module', '-e', source] : ['-e', source];
  const { stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  const ms = Number.parseFloat(stdout);
  if (Number.isNaN(ms)) throw new Error(stderr);
  return ms;
}

const bytes = readFileSync(join(root, 'native', addon));
console.log(
  `${addon}: ${(bytes.length / 1e6).toFixed(2)} MB, gzip ${(gzipSync(bytes).length / 1e6).toFixed(2)} MB`,
);
const subjects = [['Node', process.execPath], ...(existsSync(bun) ? [['Bun', bun]] : [])].flatMap(
  ([host, command]) =>
    Object.entries(SOURCES).map(([title, source]) => ({
      title: `${host}, ${title}`,
      command,
      source,
      times: [],
    })),
);
for (let round = 0; round < rounds; round++)
  for (const { command, source, times } of subjects) times.push(measured(command, source));
/**
 * Most milliseconds of an import, on a quiet machine, and their share of the import with one file for
 * each module on that machine, which took 33 and 23 ms.
 */
const MOST = {
  'Node, all of portcullis': [16, 16 / 33],
  'Bun, all of portcullis': [14, 14 / 23],
};
for (const { title, times } of subjects) {
  times.sort((a, b) => a - b);
  console.log(
    `${title}: median ${times[times.length >> 1].toFixed(1)} ms, ${times[0].toFixed(1)} to ${times.at(-1).toFixed(1)} ms, ${times.length} processes`,
  );
}
for (const [at, { title, times }] of subjects.entries()) {
  if (!(title in MOST)) continue;
  const [ms, share] = MOST[title];
  console.log(`${title}, the quickest`);
  verdict('  import', times[0], 'ms', { most: ms });
  const most = Number(share.toFixed(2));
  verdict('  of one file for each module', times[0] / subjects[at + 1].times[0], 'x', { most });
}
