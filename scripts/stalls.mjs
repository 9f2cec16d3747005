// npm run stalls: blocks event loops in known ways, and compares the reports of the monitor with the times that
// the blocked code itself has measured. Ends with a table, and with code 1 if a report is wrong.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CASES } from '../stalls/cases.mjs';
import { judge, rowOf, tableOf } from '../stalls/judge.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail, root, tool } from './lib/project.mjs';

const USAGE = `npm run stalls -- [options]
  --short        only the ${CASES.filter(({ isShort }) => isShort).length} cases of the short form
  --host HOST    node or bun; default: both
  --case LIST    only these cases, separated by commas
  --write        puts the table into docs/stalls.md`;
const options = readOptions(USAGE, {
  short: { type: 'boolean' },
  host: { type: 'string', of: ['node', 'bun'] },
  case: { type: 'list', of: CASES.map(({ id }) => id) },
  write: { type: 'boolean' },
});
build();

const HOSTS = {
  node: [process.execPath, '--expose-gc'],
  bun: [tool('bun')],
};

const has = (program) => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;

/** Runs one case in its own process. */
function resultOf(host, { id }) {
  const [command, ...args] = HOSTS[host];
  const file = join(root, 'stalls', 'subject.mjs');
  const { stdout, stderr, status } = spawnSync(command, [...args, file, id], {
    cwd: root,
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (status !== 0) return { failure: `ended with ${status}: ${stderr.trim().slice(0, 300)}` };
  return JSON.parse(stdout.trim().split('\n').at(-1));
}

const wanted = CASES.filter(
  (one) =>
    (options.case === undefined || options.case.includes(one.id)) &&
    (options.short !== true || one.isShort),
);
const rows = [];
for (const host of options.host === undefined ? Object.keys(HOSTS) : [options.host]) {
  for (const one of wanted) {
    if (process.platform !== 'linux' || (one.needs !== undefined && !has(one.needs))) {
      console.log(`${host} ${one.id}: left out, needs ${one.needs ?? 'Linux'}`);
      continue;
    }
    const row = judge(host, one, resultOf(host, one));
    rows.push(row);
    console.log(rowOf(row));
  }
}

const table = tableOf(rows);
console.log(`\n${table}`);
const PAGE = join(root, 'docs/stalls.md');
const MARKS = /(<!-- stalls -->\n)[\s\S]*(<!-- end -->)/;
if (options.write) {
  const page = readFileSync(PAGE, 'utf8');
  if (!MARKS.test(page)) fail('docs/stalls.md has no place for the table.');
  writeFileSync(PAGE, page.replace(MARKS, `$1\n${table}\n\n$2`));
}
const wrong = rows.filter(({ problems }) => problems.length > 0);
console.log(`${rows.length - wrong.length} of ${rows.length} cases as expected`);
if (wrong.length > 0)
  fail(wrong.map(({ host, id, problems }) => `${host} ${id}: ${problems.join('; ')}`).join('\n'));
