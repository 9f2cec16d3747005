import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { inFull } from './fixtures/long.js';

const folder = mkdtempSync(join(tmpdir(), 'load-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** Runs the command as a user does. */
function load(
  ...args: string[]
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  return new Promise((resolve) => {
    execFile('node', ['scripts/load.mjs', ...args], (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}

interface Interval {
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

interface Figures {
  readonly connected: number;
  readonly left: number;
  readonly steady: { readonly sent: number; readonly answered: number };
  readonly burst: { readonly unanswered: number };
  readonly flood?: { readonly statuses: Record<string, number>; readonly seats: number };
  readonly seats?: { readonly replaced: Record<string, number>; readonly areExact: boolean };
  readonly wrong: { readonly answers: number; readonly lost: number };
}

// The shortest phases: nothing is measured here. `PORTCULLIS_LONG=1` runs those of `--quick`.
const { phases, messages, refusals } = inFull(
  { phases: '--smoke', messages: 5, refusals: 200 },
  { phases: '--quick', messages: 25, refusals: 1000 },
);

// `PORTCULLIS_LONG=1`, which `.ci/run` sets, runs it on both.
describe.each(inFull(['bun'], ['bun', 'node']))('npm run load, on %s', (host) => {
  it(
    'has all contestants do the same work, lose nothing, and refuse the clients that they must',
    { timeout: 120_000 },
    async () => {
      const { code, out, err } = await load(
        phases,
        '--connections',
        '50',
        '--host',
        host,
        '--results',
        folder,
      );
      expect([code, err]).toEqual([0, '']);
      expect(out).toContain('flood: rounds whose seats were not exact');
      const { rounds, verdict, machine } = JSON.parse(
        readFileSync(join(folder, `load-${host}.json`), 'utf8'),
      ) as {
        rounds: Record<string, Figures>[];
        verdict: { title: string; got?: number }[];
        machine: object;
      };
      expect(Object.keys(machine)).toEqual(['cpu', 'cores', 'memoryMb', 'arePinned']);
      expect(verdict.every(({ got }) => Number.isFinite(got))).toBe(true);
      expect(Object.keys(rounds[0]!).toSorted()).toEqual(['bare', 'npm', 'portcullis', 'twin']);
      for (const [name, { connected, left, steady, burst, flood, seats, wrong }] of Object.entries(
        rounds[0]!,
      )) {
        expect([
          name,
          connected,
          left,
          steady.sent,
          steady.answered,
          burst.unanswered,
          wrong,
        ]).toEqual([name, 50, 0, messages, messages, 0, { answers: 0, lost: 0 }]);
        if (name === 'bare') continue;
        // The address has no seat left: portcullis verifies no token of it, be it good or bad.
        const statuses =
          name === 'portcullis' ? { 429: 2 * refusals } : { 401: refusals, 429: refusals };
        expect([name, flood?.statuses, flood?.seats]).toEqual([name, statuses, 50]);
        expect([name, seats?.areExact]).toEqual([name, true]);
      }
      expect(readFileSync(join(folder, `load-${host}.svg`), 'utf8')).toMatch(/^<svg .*<\/svg>\n$/s);
    },
  );
});

describe('npm run load:slices', () => {
  it('compares both servers, and loses nothing', { timeout: 120_000 }, async () => {
    const command = ['scripts/load-slices.mjs', '--smoke', '--host', 'bun', '--results', folder];
    const { status, stderr } = spawnSync('node', command, { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
    const { rows, beyondKb, liveBytes } = JSON.parse(
      readFileSync(join(folder, 'load-slices-bun.json'), 'utf8'),
    ) as {
      rows: { ratio: Interval }[];
      beyondKb: Interval;
      liveBytes: Record<string, number>;
    };
    // A machine without an address that can be banned has no rows of bans.
    expect([13, 15]).toContain(rows.length);
    expect(Object.keys(liveBytes).toSorted()).toEqual(['bare', 'least', 'portcullis']);
    expect(Object.values(liveBytes).every(Number.isFinite)).toBe(true);
    for (const { median, low, high } of [...rows.map(({ ratio }) => ratio), beyondKb])
      expect([median, low <= median && median <= high]).toEqual([expect.any(Number), true]);
  });
});

describe('npm run load', () => {
  it.each([
    [['--host', 'deno'], '--host must be bun or node, not "deno"'],
    [['--connections', '-1'], /--connections/],
    [['--connections', '19'], '--connections must be a whole number from 20 to 60000, not "19"'],
    [['--connections', '1e4'], '--connections must be a whole number from 20 to 60000, not "1e4"'],
    [['--rounds', '0'], '--rounds must be a whole number from 1 to 99, not "0"'],
    [['--only', 'bare,nobody'], '--only must be bare, twin, npm or portcullis, not "nobody"'],
    [['--fast'], /--fast/],
    [['extra'], /extra/],
  ])('%j: prints the allowed values, and starts nothing', async (args, sentence) => {
    const { code, out, err } = await load(...args, '--results', folder);
    expect([code, out]).toEqual([1, '']);
    expect(err).toMatch(
      typeof sentence === 'string' ? new RegExp(`^portcullis: ${sentence}\\.`) : sentence,
    );
    expect(err).toContain('npm run load -- [options]');
  });

  // The root user of a machine may raise its own limit.
  const mayRaise = spawnSync('sh', ['-c', 'ulimit -n 256 && ulimit -n 60500']).status === 0;
  if (mayRaise)
    console.log(
      'skipped: this user may raise the limit of open files, so the command does it instead of failing',
    );
  it.skipIf(mayRaise)('tells how to raise the limit of open files', async () => {
    const said = await new Promise<string>((resolve) => {
      execFile(
        'sh',
        ['-c', 'ulimit -n 256 && exec node scripts/load.mjs --connections 60000'],
        (_error, _out, err) => resolve(err),
      );
    });
    expect(said).toMatch(
      /^portcullis: 60000 connections need 60500 open files a process, and the hard limit is 256\. Raise it/,
    );
  });
});
