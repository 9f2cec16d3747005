import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import { beforeAll, describe, expect, it } from 'vitest';
import { TRIALS, trialsOf } from '../soak/plan.mjs';

// The soak in short: the same code with small counts. `npm run soak` runs it in full.
const soak = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync('node', ['scripts/soak.mjs', ...args], { encoding: 'utf8' });

describe.each(['ws', 'elysia', 'bun'])(
  'nothing crashes, no seat is lost, no timer is left: %s',
  (host) => {
    let ran: SpawnSyncReturns<string>;
    beforeAll(() => {
      ran = soak('--short', '--seed', '1', '--host', host);
    }, 300_000);

    it.each(trialsOf(host))('%s', (trial) => {
      const [, verdict] = new RegExp(`^(\\S+) +[^:\n]+: ${trial} `, 'm').exec(ran.stdout) ?? [];
      expect(verdict, `${ran.stdout}${ran.stderr}`).toBe('ok');
    });

    it('ends with code 0 and complains of nothing', () => {
      expect([ran.status, ran.stderr], ran.stdout).toEqual([0, '']);
    });
  },
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
])('says "%s" where its options are wrong', (sentence, args) => {
  const { status, stdout, stderr } = soak(...args);
  expect([status, stdout]).toEqual([2, '']);
  expect(stderr).toContain(sentence);
});
