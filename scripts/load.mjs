// npm run load: ten thousand live WebSocket clients against a server with every feature of
// portcullis on, a bare server, the same design in plain JavaScript, and packages from npm. Builds
// the stale parts first.
import { spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join, resolve } from 'node:path';
import { measure } from '../load/measure.mjs';
import { loadOptions } from '../load/options.mjs';
import { plotOf } from '../load/plot.mjs';
import { arePinned, filesProblem } from '../load/processes.mjs';
import { closing, medians, tableOf, verdictOf, verdictText } from '../load/verdict.mjs';
import { build, fail, json, root } from './lib/project.mjs';

const options = loadOptions();
const isTerminal = process.stdout.isTTY === true;

/** Creates the folder of the results: a wrong path fails here, before the minutes of the run. */
function createResults() {
  try {
    mkdirSync(resolve(root, options.results), { recursive: true });
  } catch (error) {
    fail(`--results: ${options.results} cannot be a folder (${error.code})`);
  }
}

/** Describes the commit, the machine, the versions and the options of this run. */
function runDetails() {
  const git = (...args) =>
    spawnSync('git', args, { cwd: root, encoding: 'utf8' }).stdout?.trim() || undefined;
  const commit = git('rev-parse', '--short=12', 'HEAD') ?? 'unknown';
  const isChanged = git('status', '--porcelain', '--', 'ts', 'src', 'bench', 'load') !== undefined;
  const { hosts: _hosts, results: _results, ...settings } = options;
  const packages = ['bun', 'elysia', 'ws', 'fast-jwt', 'prom-client', 'rate-limiter-flexible'];
  const versionOf = (name) => json(join(root, 'node_modules', name, 'package.json')).version;
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: isChanged ? `${commit} with changes` : commit,
    machine: {
      cpu: cpus()[0]?.model ?? 'unknown',
      cores: cpus().length,
      memoryMb: Math.round(totalmem() / 2 ** 20),
      arePinned,
    },
    versions: {
      node: process.versions.node,
      ...Object.fromEntries(packages.map((name) => [name, versionOf(name)])),
    },
    options: settings,
  };
}

const started = performance.now();
/**
 * Returns a function that prints the phase under way: on one line of a terminal, else a line for
 * each phase.
 */
function progressOf(title) {
  let latest = '';
  return (phase, part) => {
    const seconds = `${Math.round((performance.now() - started) / 1000)} s`.padStart(5);
    const percent = part === 0 ? '' : `${Math.floor(part * 100)} %`;
    if (isTerminal) process.stdout.write(`\r\x1b[K${seconds}  ${title}  ${phase} ${percent}`);
    else if (phase !== latest) console.log(`${seconds}  ${title}  ${phase}`);
    latest = phase;
  };
}

/** Measures every contestant on a host; returns the figures of each round, by contestant. */
async function measureHost(host) {
  const rounds = [];
  for (let round = 0; round < options.rounds; round++) {
    const figures = {};
    for (let turn = 0; turn < options.contestants.length; turn++) {
      // Each round begins with another contestant.
      const contestant = options.contestants[(turn + round) % options.contestants.length];
      const title = `${host} ${contestant}, round ${round + 1} of ${options.rounds}:`;
      figures[contestant] = await measure(host, contestant, options, progressOf(title));
    }
    rounds.push(figures);
  }
  if (isTerminal) process.stdout.write('\r\x1b[K');
  return rounds;
}

function writeResults(host, title, details, { figures, verdict, rounds }) {
  const file = (ending) => join(resolve(root, options.results), `load-${host}.${ending}`);
  const { date, commit, machine } = details;
  const caption = `${options.connections} connections, ${machine.cores} x ${machine.cpu}, medians of ${options.rounds}; commit ${commit}, ${date}`;
  writeFileSync(
    file('json'),
    `${JSON.stringify({ host, ...details, figures, verdict, rounds }, null, 2)}\n`,
  );
  writeFileSync(file('svg'), plotOf(figures, title, caption));
  console.log(`written: ${options.results}/load-${host}.json and .svg`);
}

if (options.results !== undefined) createResults();
const problem = filesProblem(options.connections);
if (problem !== undefined) fail(problem);
build();

const details = runDetails();
const { machine, commit, versions } = details;
console.log(
  `${options.connections} connections, ${options.rate} messages a second, a flood of ${options.floods} refused connects; ${options.rounds} round(s)`,
);
console.log(`${machine.cores} x ${machine.cpu}, ${machine.memoryMb} MB; commit ${commit}`);
if (!arePinned)
  console.log('servers and clients share all cores: this machine has one core, or no taskset');

const verdicts = [];
for (const host of options.hosts) {
  const rounds = await measureHost(host);
  const figures = Object.fromEntries(
    options.contestants.map((name) => [name, medians(rounds.map((round) => round[name]))]),
  );
  const verdict = verdictOf(host, rounds);
  verdicts.push(...verdict);
  const title =
    host === 'bun'
      ? `Elysia ${versions.elysia} on Bun ${versions.bun}`
      : `ws ${versions.ws} on Node ${versions.node}`;
  console.log(`\n${title}\n\n${tableOf(figures)}\n`);
  if (options.contestants.includes('portcullis')) console.log(`${verdictText(verdict)}\n`);
  if (options.results !== undefined)
    writeResults(host, title, details, { figures, verdict, rounds });
}
if (options.isQuick) console.log('Short phases: these are no figures to quote.');
console.log(closing(verdicts));
// Times depend on the machine, lost messages and wrong seats on portcullis: only these fail the
// command without `--strict`.
if (verdicts.some(({ isExact, pass }) => (isExact || options.isStrict) && pass === false))
  process.exitCode = 1;
