import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { TRIALS, trialsOf } from '../soak/plan.mjs';

// The soak in short: the same code with small counts. What it waits for, it waits for; nothing is timed.
// Clients are by hand and run on Node; the hosts are those of the runtime that runs this suite.
const HOSTS = process.versions['bun'] === undefined ? ['ws'] : ['elysia', 'bun'];
const soak = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('node', ['scripts/soak.mjs', ...args], { encoding: 'utf8', timeout: 110_000 });

describe.each(HOSTS)('nothing crashes, no seat is lost, no timer left: %s', (host) => {
  it.each(trialsOf(host))('%s', { timeout: 120_000 }, (trial) => {
    const { status, stdout, stderr } = soak(
      '--short',
      '--seed',
      '1',
      '--host',
      host,
      '--trial',
      trial,
    );
    expect([status, stderr], stdout).toEqual([0, '']);
    expect(stdout).toContain(`: ${trial} `);
  });
});

it.each<[string, readonly string[]]>([
  ['--minutes must be a number', ['--minutes', 'soon']],
  ['--minutes must be a number', ['--minutes', '0']],
  ['--hours must be a number', ['--hours', '1000']],
  ['give one of them', ['--hours', '1', '--minutes', '1']],
  ["Unknown option '--minute'", ['--minute', '1']],
  ['--host must be one of ws, elysia, bun', ['--host', 'node']],
  [`--trial must be one of ${Object.keys(TRIALS).join(', ')}`, ['--trial', 'everything']],
  ['--seed must be a whole number', ['--seed', 'x']],
  ['runs inside of a runtime', ['--host', 'bun', '--trial', 'model']],
])('says "%s" where its options are wrong', (sentence, args) => {
  const { status, stdout, stderr } = soak(...args);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain(sentence);
});
