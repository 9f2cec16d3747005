// npm run load: ten thousand live WebSocket clients behind everything there is, against a bare server, the plan's
// design in plain JavaScript, and what npm offers. Builds what is stale; see load/options.mjs.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { resolve } from 'node:path';
import { measure } from '../load/measure.mjs';
import { USAGE, UsageError, optionsOf } from '../load/options.mjs';
import { plotOf } from '../load/plot.mjs';
import { arePinned, filesProblem, root } from '../load/processes.mjs';
import { closing, medians, tableOf, verdictOf, verdictText } from '../load/verdict.mjs';

function fail(sentence) {
  console.error(`portcullis: ${sentence}`);
  process.exit(1);
}

function given() {
  try {
    return optionsOf(process.argv.slice(2));
  } catch (error) {
    if (error instanceof UsageError) return fail(`${error.message}.\n\n${USAGE}`);
    throw error;
  }
}

const options = given();
if (options.help) {
  console.log(USAGE);
  process.exit(0);
}
if (options.results !== undefined) {
  try {
    // Before minutes are spent.
    mkdirSync(resolve(root, options.results), { recursive: true });
  } catch (error) {
    fail(`--results: ${options.results} cannot be a folder (${error.code})`);
  }
}
const problem = filesProblem(options.connections);
if (problem !== undefined) fail(problem);
if (
  spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' }).status !== 0
)
  process.exit(1);

const output = (command, args) =>
  spawnSync(command, args, { cwd: root, encoding: 'utf8' }).stdout?.trim() || undefined;
const version = (name) =>
  JSON.parse(readFileSync(`${root}/node_modules/${name}/package.json`, 'utf8')).version;
const about = {
  date: new Date().toISOString().slice(0, 10),
  commit:
    (output('git', ['rev-parse', '--short=12', 'HEAD']) ?? 'unknown') +
    (output('git', ['status', '--porcelain', '--', 'ts', 'src', 'bench', 'load'])
      ? ' with changes'
      : ''),
  machine: {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    memoryMb: Math.round(totalmem() / 2 ** 20),
    arePinned,
  },
  versions: {
    node: process.versions.node,
    ...Object.fromEntries(
      ['bun', 'elysia', 'ws', 'fast-jwt', 'prom-client', 'rate-limiter-flexible'].map((name) => [
        name,
        version(name),
      ]),
    ),
  },
  options: Object.fromEntries(
    Object.entries(options).filter(([name]) => !['help', 'results', 'hosts'].includes(name)),
  ),
};

const started = performance.now();
const seconds = () => `${Math.round((performance.now() - started) / 1000)} s`.padStart(5);
/** One line that is written over, where somebody looks; one for each phase elsewhere. */
function teller(what) {
  let latest = '';
  return (phase, part) => {
    if (process.stdout.isTTY)
      process.stdout.write(
        `\r\x1b[K${seconds()}  ${what}  ${phase} ${part === 0 ? '' : `${Math.floor(part * 100)} %`}`,
      );
    else if (phase !== latest) console.log(`${seconds()}  ${what}  ${phase}`);
    latest = phase;
  };
}

console.log(
  `${options.connections} connections, ${options.rate} messages a second, a flood of ${options.floods} refused connects; ${options.rounds} round(s)`,
);
console.log(
  `${about.machine.cores} x ${about.machine.cpu}, ${about.machine.memoryMb} MB; commit ${about.commit}`,
);
if (!arePinned)
  console.log('servers and clients share all cores: there is no taskset here, or one core only');

const verdicts = [];
let isWrong = false;
for (const host of options.hosts) {
  const rounds = [];
  for (let round = 0; round < options.rounds; round++) {
    const figures = {};
    for (let turn = 0; turn < options.contestants.length; turn++) {
      // Another one begins each round.
      const contestant = options.contestants[(turn + round) % options.contestants.length];
      figures[contestant] = await measure(
        host,
        contestant,
        options,
        teller(`${host} ${contestant}, round ${round + 1} of ${options.rounds}:`),
      );
    }
    rounds.push(figures);
  }
  if (process.stdout.isTTY) process.stdout.write('\r\x1b[K');
  const figures = Object.fromEntries(
    options.contestants.map((name) => [name, medians(rounds.map((round) => round[name]))]),
  );
  const verdict = verdictOf(host, rounds);
  isWrong ||= verdict.some(({ isExact, pass }) => isExact && pass === false);
  verdicts.push(...verdict);
  const title =
    host === 'bun'
      ? `Elysia ${about.versions.elysia} on Bun ${about.versions.bun}`
      : `ws ${about.versions.ws} on Node ${about.versions.node}`;
  console.log(`\n${title}\n\n${tableOf(figures)}\n`);
  if (options.contestants.includes('portcullis')) console.log(`${verdictText(verdict)}\n`);
  if (options.results === undefined) continue;
  const folder = resolve(root, options.results);
  writeFileSync(
    `${folder}/load-${host}.json`,
    `${JSON.stringify({ host, ...about, figures, verdict, rounds }, null, 2)}\n`,
  );
  const caption = `${options.connections} connections, ${about.machine.cores} x ${about.machine.cpu}, medians of ${options.rounds}; commit ${about.commit}, ${about.date}`;
  writeFileSync(`${folder}/load-${host}.svg`, plotOf(figures, title, caption));
  console.log(`written: ${options.results}/load-${host}.json and .svg`);
}
if (options.isQuick) console.log('short phases: not for figures.');
console.log(closing(verdicts));
// Times are the machine's affair; what was lost is ours.
if (isWrong) process.exitCode = 1;
