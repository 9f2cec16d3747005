import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { TRIALS } from '../soak/plan.mjs';
import { inFull } from './fixtures/long.js';

// Two trials of the soak with small counts. `npm run soak -- --short` runs them all, and `.ci/run` calls it.
const soak = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('node', ['scripts/soak.mjs', ...args], { encoding: 'utf8' });

it.each(inFull(['ws'], ['ws', 'elysia', 'bun']))(
  'nothing crashes, and no seat is lost: %s',
  (host) => {
    const trials = ['connects', 'killed'];
    const chosen = trials.flatMap((trial) => ['--trial', trial]);
    const { status, stdout, stderr } = soak('--short', '--seed', '1', '--host', host, ...chosen);
    for (const trial of trials) expect(stdout).toMatch(new RegExp(`^ok +[^:\n]+: ${trial} `, 'm'));
    expect([status, stderr], stdout).toEqual([0, '']);
  },
  120_000,
);

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
])('says "%s" for wrong options', (sentence, args) => {
  const { status, stdout, stderr } = soak(...args);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain(sentence);
});
