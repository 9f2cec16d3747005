// npm run timers: compares the behaviours of the hosts' timers with ours, on Node and on Bun.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { BEHAVIOURS, resultsOf } from '../__test__/fixtures/timer-behaviours.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail, root, tool } from './lib/project.mjs';

const { write } = readOptions(
  'npm run timers -- [options]\n  --write    puts the table into docs/timers.md',
  { write: { type: 'boolean' } },
);
build();

const HOSTS = [
  ['Node', process.execPath],
  ['Bun', tool('bun')],
];
const columns = [];
for (const [host, command] of HOSTS)
  for (const kind of ['host', 'ours'])
    columns.push({ host, kind, results: await resultsOf(command, kind) });

const word = (result) => (result === null ? '-' : result === '' ? 'yes' : 'no');
const count = ({ results }) =>
  `${results.filter((result) => result === '').length} of ${results.filter((result) => result !== null).length}`;
const table = [
  `| behaviour | Node's test | ${columns.map(({ host, kind }) => `${host}: ${kind}`).join(' | ')} |`,
  `| --- | --- | ${columns.map(() => '---').join(' | ')} |`,
  ...BEHAVIOURS.map(
    ({ name, source }, at) =>
      `| ${name} | \`${source}\` | ${columns.map(({ results }) => word(results[at])).join(' | ')} |`,
  ),
  `| **all** | | ${columns.map((column) => `**${count(column)}**`).join(' | ')} |`,
].join('\n');
console.log(table);

const PAGE = join(root, 'docs/timers.md');
const MARKS = /(<!-- behaviours -->\n)[\s\S]*(<!-- end -->)/;
if (write) {
  const page = readFileSync(PAGE, 'utf8');
  if (!MARKS.test(page)) fail('docs/timers.md has no place for the table.');
  writeFileSync(PAGE, page.replace(MARKS, `$1\n${table}\n\n$2`));
}
const lacking = columns
  .filter(({ kind }) => kind === 'ours')
  .flatMap(({ host, results }) =>
    results.flatMap((result, at) => (result ? [`${host}: ${BEHAVIOURS[at].name}: ${result}`] : [])),
  );
if (lacking.length > 0) fail(lacking.join('\n'));
