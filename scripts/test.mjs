// Runs every test: the core in Rust, the suite on Node, and on Bun the part that is about an engine.
// PORTCULLIS_LONG=1 runs the long form of every test that has one. Ends with the time, and one line of counts.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readOptions } from './lib/options.mjs';

readOptions(
  `npm test [-- --help]: runs every test: the core in Rust, the suite on Node, and on Bun the part that is about
an engine.

PORTCULLIS_LONG=1 runs the long form of every test that has one.
Some specs only: npx vitest run __test__/NAME.spec.ts`,
  {},
);

const SLOWEST = 10;
const BUN = 'node_modules/.bin/bun';
const root = fileURLToPath(new URL('..', import.meta.url));
const reports = mkdtempSync(join(tmpdir(), 'portcullis-test-'));
const times = [];
const specs = [];
let passed = 0;
let failed = 0;

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** Runs a command and shows what it prints; resolves with its exit code and its standard output. */
function run(command, args, env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, NO_COLOR: '1', ...env },
    });
    let out = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text;
      process.stdout.write(text);
    });
    child.on('error', (error) => {
      console.error(`portcullis: ${command} cannot be run: ${error.message}`);
      resolve({ status: null, out });
    });
    child.on('close', (status) => resolve({ status, out }));
  });
}

/**
 * Runs one step and adds what `count` reads of it.
 * @param count returns how many tests have passed and how many have failed, from the standard output
 * @param env variables for the command
 * @returns whether the command has succeeded
 */
async function step(title, command, args, count = undefined, env = {}) {
  console.log(`\n== ${title}`);
  const began = performance.now();
  const { status, out } = await run(command, args, env);
  times.push({ title, ms: performance.now() - began });
  if (count === undefined) return status === 0;
  const seen = count(out);
  passed += seen.passed;
  failed += seen.failed;
  if (status !== 0 && seen.failed === 0) {
    console.error(`portcullis: "${title}" ended with ${status}`);
    failed++;
  }
  if (status === 0 && seen.passed === 0) {
    console.error(`portcullis: "${title}" ran no test`);
    failed++;
  }
  return status === 0;
}

/** Counts the tests of cargo, which ends each binary with a line of its own. */
function ofCargo(out) {
  const lines = [...out.matchAll(/test result: \w+\. (\d+) passed; (\d+) failed/g)];
  const sum = (at) => lines.reduce((total, line) => total + Number(line[at]), 0);
  return { passed: sum(1), failed: sum(2) };
}

/**
 * Runs the specs of one runtime, and notes how long each file has taken.
 * @param names of spec files; none for all
 */
function suite(runtime, command, args = [], names = [], env = {}) {
  const file = join(reports, `${runtime}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const files = names.map((name) => `__test__/${name}.spec.ts`);
  const vitest = [...args, 'node_modules/vitest/vitest.mjs', 'run', ...reporters, ...files];
  const count = () => {
    let report;
    try {
      report = JSON.parse(readFileSync(file, 'utf8'));
    } catch {
      return { passed: 0, failed: 0 };
    }
    for (const { name, startTime, endTime } of report.testResults)
      specs.push({ title: `${relative(root, name)} on ${runtime}`, ms: endTime - startTime });
    // A file that cannot be loaded has no tests.
    const broken = report.testResults.filter(
      ({ status, assertionResults }) => status === 'failed' && assertionResults.length === 0,
    );
    return { passed: report.numPassedTests, failed: report.numFailedTests + broken.length };
  };
  return step(`suite on ${runtime}`, command, vitest, count, env);
}

/** Specs that make the hot calls of connections: on Bun they run once more, with PORTCULLIS_FFI=1. */
const OVER_FFI = ['ffi', 'connections-model', 'message-rates'];
/** The others of them, in the long form. */
const OVER_FFI_LONG = [
  'bans',
  'connections',
  'exempt',
  'full-table',
  'handshake-fuzz',
  'hostile',
  'id-index',
  'shutdown-bun',
];
/** A spec of the long form that starts servers on all hosts, those on Bun with PORTCULLIS_FFI=1. */
const SERVERS_OVER_FFI = ['limits'];

const CARGO_TEST = ['test', '--locked', '--no-default-features', '--quiet'];

// The two builds run side by side, since the end of the addon's build uses one core only. The next step prints errors in
// the build of the tests again.
const [isBuilt] = await Promise.all([
  step('build', process.execPath, ['scripts/build.mjs']),
  run('cargo', [...CARGO_TEST, '--no-run']),
]);
if (!isBuilt) process.exit(1);
await step('core (cargo)', 'cargo', CARGO_TEST, ofCargo);
await suite('Node', process.execPath);
await suite('Bun', BUN, ['--bun']);
const isLong = process.env.PORTCULLIS_LONG === '1';
const ffi = { PORTCULLIS_FFI: '1' };
const names = isLong ? [...OVER_FFI, ...OVER_FFI_LONG] : OVER_FFI;
await suite('Bun over FFI', BUN, ['--bun'], names, ffi);
if (isLong) await suite('Node, servers over FFI', process.execPath, [], SERVERS_OVER_FFI, ffi);
else
  console.log(
    `\nleft to PORTCULLIS_LONG=1 over FFI: ${[...OVER_FFI_LONG, ...SERVERS_OVER_FFI].join()}`,
  );
rmSync(reports, { recursive: true });

console.log(`\n== the ${SLOWEST} slowest spec files`);
for (const { title, ms } of specs.toSorted((a, b) => b.ms - a.ms).slice(0, SLOWEST))
  console.log(`${seconds(ms).padStart(8)}  ${title}`);
console.log(`\n== ${seconds(performance.now())} in all`);
for (const { title, ms } of times) console.log(`${seconds(ms).padStart(8)}  ${title}`);
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
