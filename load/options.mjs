// The options of `npm run load`.
import { readOptions } from '../scripts/lib/options.mjs';
import { CONTESTANTS, HOSTS } from './settings.mjs';

const FULL = {
  connections: 10_000,
  rounds: 3,
  warmMs: 2000,
  steadyMs: 3000,
  windows: 5,
  idleMs: 2000,
  settleMs: 300,
  burstMs: 4000,
  floods: 50_000,
  results: 'bench/results',
};
const QUICK = {
  connections: 1000,
  rounds: 1,
  warmMs: 300,
  steadyMs: 1000,
  windows: 1,
  idleMs: 300,
  settleMs: 300,
  burstMs: 500,
  floods: 2000,
  results: undefined,
};
/** For the tests: the phases are too short for any figure, but show lost messages and wrong seats. */
const SMOKE = {
  ...QUICK,
  connections: 50,
  warmMs: 200,
  steadyMs: 200,
  idleMs: 0,
  settleMs: 100,
  burstMs: 100,
  floods: 400,
};
/** Messages per second of each client in the phase `steady`. */
const RATE = 0.5;

const USAGE = `npm run load -- [options]
  --host bun|node      one of the two hosts only
  --only A,B           some contestants only: ${CONTESTANTS.join(', ')}
  --connections N      live clients, 20 to 60000 (default 10000; 1000 with --quick, 50 with --smoke)
  --rounds N           1 to 99 (default 3; 1 with --quick): the tables show medians
  --quick              short phases: to try the command, not for figures
  --smoke              the shortest phases, for the tests
  --results FOLDER     where JSON and plot go (default bench/results; none with --quick)
  --strict             fails if a target is missed; lost messages and wrong seats fail it always`;
const OPTIONS = {
  host: { type: 'string', of: HOSTS },
  only: { type: 'list', of: CONTESTANTS, default: CONTESTANTS },
  connections: { type: 'integer', least: 20, most: 60_000 },
  rounds: { type: 'integer', least: 1, most: 99 },
  quick: { type: 'boolean', default: false },
  smoke: { type: 'boolean', default: false },
  results: { type: 'string' },
  strict: { type: 'boolean', default: false },
};

/** Reads the arguments of this process. */
export function loadOptions() {
  const { host, only, connections, rounds, quick, smoke, results, strict } = readOptions(
    USAGE,
    OPTIONS,
  );
  const settings = { ...(smoke ? SMOKE : quick ? QUICK : FULL) };
  for (const [name, value] of Object.entries({ connections, rounds, results }))
    if (value !== undefined) settings[name] = value;
  return {
    ...settings,
    isQuick: smoke || quick,
    isStrict: strict,
    hosts: host === undefined ? HOSTS : [host],
    // In the order of CONTESTANTS, whatever the order on the command line.
    contestants: CONTESTANTS.filter((name) => only.includes(name)),
    rate: Math.max(1, Math.round(settings.connections * RATE)),
  };
}
