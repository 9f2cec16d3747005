// Tries the contract of all adapters on the servers of the ecosystem, with the packages of hosts/.
// Prints a line for each host, the reason of each test that cannot apply, and one line of counts.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HOSTS } from '../hosts/hosts.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail, root } from './lib/project.mjs';

const USAGE = `npm run hosts -- [options]
  --only NAME     only the hosts whose name contains NAME
  --short         without the hosts and tests that take long
  --installed     with the packages of hosts/ as they are`;
const folder = join(root, 'hosts');

/** Installs the packages of a folder, and links this project among them. */
function install(path) {
  const modules = join(path, 'node_modules');
  const stamp = join(modules, '.package-lock.json');
  const isFresh =
    existsSync(stamp) &&
    statSync(stamp).mtimeMs >= statSync(join(path, 'package-lock.json')).mtimeMs;
  if (!isFresh) {
    const args = ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'];
    const { status, stderr } = spawnSync('npm', args, {
      cwd: path,
      encoding: 'utf8',
      shell: process.platform === 'win32',
    });
    if (status !== 0) fail(`the packages of ${path} cannot be installed: ${stderr}`);
  }
  const link = join(modules, 'portcullis');
  if (!existsSync(link)) symlinkSync(root, link, 'junction');
}

/** Builds the application of a host that has to be built. */
function buildHost({ build: command, folder: name }) {
  if (command === undefined) return;
  const [program, ...args] = command;
  const cwd = join(folder, name);
  const env = { ...process.env, NEXT_TELEMETRY_DISABLED: '1' };
  const { status, stdout, stderr } = spawnSync(program, args, { cwd, encoding: 'utf8', env });
  if (status !== 0) fail(`${command.join(' ')} ended with ${status}: ${stdout}${stderr}`);
}

/** Runs the tests of some hosts; returns vitest's report. */
async function report(names, isShort) {
  const reports = mkdtempSync(join(tmpdir(), 'portcullis-hosts-'));
  const file = join(reports, 'report.json');
  const args = [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--config=hosts/vitest.config.ts',
    '--reporter=json',
    `--outputFile.json=${file}`,
  ];
  const env = { ...process.env, HOSTS: JSON.stringify(names), NO_COLOR: '1' };
  if (isShort) env.HOSTS_SHORT = '1';
  const child = spawn(process.execPath, args, { cwd: root, env, stdio: 'inherit' });
  const status = await new Promise((resolve) => void child.on('close', resolve));
  if (!existsSync(file)) fail(`vitest ended with ${status}, without a report`);
  const { testResults } = JSON.parse(readFileSync(file, 'utf8'));
  rmSync(reports, { recursive: true });
  return testResults;
}

/** Prints the result of one host; returns its counts. */
function tell(name, { cannot = {}, client, holdsProcess }, results) {
  const tests = results.flatMap(({ assertionResults }) => assertionResults);
  const count = (status) => tests.filter((test) => test.status === status).length;
  // A file that cannot be loaded has no tests.
  const failed = Math.max(count('failed'), tests.length === 0 ? 1 : 0);
  const [passed, skipped] = [count('passed'), count('skipped') + count('pending')];
  console.log(
    `${failed === 0 ? 'ok    ' : 'FAILED'} ${name}: ${passed} passed, ${failed} failed, ${skipped} skipped${client === undefined ? '' : '; its own client works'}`,
  );
  for (const [need, reason] of Object.entries(cannot)) console.log(`         ${need}: ${reason}`);
  if (holdsProcess !== undefined) console.log(`         the end of its process: ${holdsProcess}`);
  for (const { status, title, failureMessages } of tests)
    if (status === 'failed')
      console.log(`       ${title}\n         ${failureMessages[0].split('\n')[0]}`);
  if (tests.length === 0) for (const { message } of results) console.log(`       ${message}`);
  return { passed, failed, skipped };
}

const {
  only,
  short: isShort,
  installed: isInstalled,
} = readOptions(USAGE, {
  only: { type: 'string', default: '' },
  short: { type: 'boolean', default: false },
  installed: { type: 'boolean', default: false },
});
const names = Object.keys(HOSTS).filter((name) => name.includes(only));
if (names.length === 0) fail(`no host has "${only}" in its name: ${Object.keys(HOSTS).join(', ')}`);
const isLeftOut = (name) => isShort && HOSTS[name].folder !== undefined;
build();
const tried = names.filter((name) => !isLeftOut(name));
const folders = new Set(tried.map((name) => join(folder, HOSTS[name].folder ?? '')));
if (!isInstalled) for (const path of folders) install(path);
for (const name of tried) buildHost(HOSTS[name]);
const results = await report(tried, isShort);
const totals = { passed: 0, failed: 0, skipped: 0 };
for (const name of names) {
  if (isLeftOut(name)) {
    console.log(`left   ${name}: the long form tries it, since its packages are large`);
    totals.skipped++;
    continue;
  }
  // Every test of a host is in a group of its name.
  const own = results
    .map((result) => ({
      ...result,
      assertionResults: result.assertionResults.filter(
        ({ ancestorTitles }) => ancestorTitles[0] === name,
      ),
    }))
    .filter(({ assertionResults }) => assertionResults.length > 0);
  const counts = tell(name, HOSTS[name], own);
  for (const key of Object.keys(totals)) totals[key] += counts[key];
}
console.log(`\nin ${(performance.now() / 1000).toFixed(0)} s`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exit(totals.failed === 0 ? 0 : 1);
