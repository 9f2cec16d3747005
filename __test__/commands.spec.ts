import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { verdictText } from '../bench/compare.mjs';
import { closing } from '../load/verdict.mjs';

const run = (script: string, ...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('node', [script, ...args], { encoding: 'utf8', timeout: 20_000 });

describe.each([
  ['npm run soak', 'scripts/soak.mjs'],
  ['npm run load', 'scripts/load.mjs'],
  ['npm run load:slices', 'scripts/load-slices.mjs'],
  ['npm run bench', 'bench/run.mjs'],
  ['npm run bench:growth', 'bench/growth.mjs'],
  ['npm run pack:check', 'scripts/pack/check.mjs'],
  ['npm run pack:local', 'scripts/pack/local.mjs'],
  ['npm run site', 'site/build.mjs'],
  ['npm start', 'scripts/start.mjs'],
  ['npm run page:picture', 'scripts/page-picture.mjs'],
  ['npm run timers', 'scripts/timers.mjs'],
  ['npm run rolling', 'scripts/rolling.mjs'],
  ['npm run stalls', 'scripts/stalls.mjs'],
  ['npm run hosts', 'scripts/hosts.mjs'],
  ['npm run cluster', 'scripts/cluster.mjs'],
  ['npm run cluster:trial', 'scripts/cluster-trial.mjs'],
  ['npm run host:trial', 'scripts/host-trial.mjs'],
  ['npm run cluster:bench', 'scripts/cluster-bench.mjs'],
])('%s', (command, script) => {
  it('--help lists all options, and does nothing', () => {
    const { status, stdout, stderr } = run(script, '--help');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(new RegExp(`^${command} -- \\[options\\]\n(?: {2}--[\\w-]+ .+\n)+$`));
    // Every option, in whichever file it is read.
    const source = [script, 'load/options.mjs']
      .slice(0, command === 'npm run load' ? 2 : 1)
      .map((path) => readFileSync(path, 'utf8'));
    const options = [...source.join('\n').matchAll(/'?([\w-]+)'?: \{ type: '/g)]
      .map((match) => match[1] ?? '')
      .filter((name) => name !== 'help');
    expect(options.filter((name) => !stdout.includes(`\n  --${name} `))).toEqual([]);
    expect(options.length).toBeGreaterThan(0);
  });

  it('refuses an unknown option, and lists the known ones', () => {
    const { status, stdout, stderr } = run(script, '--hlep');
    expect([status === 0, stdout]).toEqual([false, '']);
    expect(stderr).toMatch(/^portcullis: .*--hlep/);
    expect(stderr).toMatch(/--load|\[options\]/);
  });
});

it.each(['loom', 'asan', 'test'])(
  'scripts/%s.mjs has no options, shows its usage and does nothing',
  (name) => {
    const script = `scripts/${name}.mjs`;
    const { status, stdout, stderr } = run(script, '--help');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^npm (run )?(loom|asan|test) \[-- --help\]: .+/);
    for (const argument of ['--hlep', 'timers']) {
      const refused = run(script, argument);
      expect([refused.status, refused.stdout]).toEqual([1, '']);
      expect(refused.stderr).toMatch(new RegExp(`^portcullis: .*${argument}.*\n\nnpm `));
    }
  },
);

it.each([
  ['--host must be node or bun, not "deno"', ['--host', 'deno']],
  ['not "tiemrs"', ['--only', 'timers,tiemrs']],
  ['Unexpected argument', ['timers']],
])('npm run bench says %s', (sentence, args) => {
  const { status, stdout, stderr } = run('bench/run.mjs', ...args);
  expect([status, stdout]).toEqual([1, '']);
  expect(stderr).toContain(sentence);
});

it.each([
  [24, { most: 25, aim: 12 }, /24 ns +must <= 25, aim <= 12 ns +met$/],
  [12, { most: 25, aim: 12 }, /must <= 25, aim <= 12 ns +met, and the aim$/],
  [25, { most: 25 }, / met$/],
  [25.1, { most: 25 }, /25\.10 ns +must <= 25 ns +MISSED$/],
  [25, { least: 25 }, /must >= 25 ns +met$/],
  [24.9, { least: 25 }, / MISSED$/],
  [Number.NaN, { most: 0 }, /- ns +must <= 0 ns +not measured$/],
] as const)('a benchmark compares %d with %j', (got, want, said) => {
  expect(
    (verdictText as (title: string, got: number, unit: string, want: object) => string)(
      'it',
      got,
      'ns',
      want,
    ),
  ).toMatch(said);
});

it.each([
  ['1', 0],
  ['9', 3],
  ['NaN', 3],
])('a benchmark with --strict and a figure of %s ends with %d', (figure, code) => {
  const source = `import { verdict } from './bench/compare.mjs'; verdict('it', ${figure}, 'ns', { most: 5 });`;
  const args = ['--input-type=module', '-e', source, '--', '--strict'];
  expect(spawnSync(process.execPath, args, { encoding: 'utf8' }).status).toBe(code);
  expect(spawnSync(process.execPath, args.slice(0, 3), { encoding: 'utf8' }).status).toBe(0);
});

it.each([
  [[undefined, undefined], /^Nothing was to be judged/],
  [[true, true], /^All is met\.$/],
  [[true, undefined], /^All that was measured is met; 1 of 2 were not\.$/],
  [[true, false, undefined], /^1 of 2 missed\.$/],
  [[], /^Nothing was to be judged/],
] as const)('npm run load sums up %j', (passes, sentence) => {
  expect(closing(passes.map((pass) => ({ pass })))).toMatch(sentence);
});
