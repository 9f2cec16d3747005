// What `npm run load` can be told.
import { parseArgs } from 'node:util';
import { CONTESTANTS, HOSTS } from './settings.mjs';

export const USAGE = `npm run load -- [options]
  --host bun|node      one of the two hosts only
  --only A,B           some contestants only: ${CONTESTANTS.join(', ')}
  --connections N      live clients, 20 to 60000 (default 10000; 1000 with --quick)
  --rounds N           1 to 99 (default 3; 1 with --quick): medians are shown
  --quick              short phases: to see it work, not for figures
  --results FOLDER     where JSON and plot go (default bench/results; none with --quick)`;

const FULL = {
  connections: 10_000,
  rounds: 3,
  warmMs: 2000,
  steadyMs: 3000,
  windows: 5,
  idleMs: 2000,
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
  burstMs: 500,
  floods: 2000,
  results: undefined,
};
/** Messages a second at the set rate, as many for each client whatever their number. */
const RATE = 0.5;

/** What is wrong with the arguments, in a sentence. */
export class UsageError extends Error {}

function wholeNumber(name, text, least, most) {
  if (!/^\d{1,9}$/.test(text) || Number(text) < least || Number(text) > most) {
    throw new UsageError(
      `--${name} must be a whole number from ${least} to ${most}, not "${text}"`,
    );
  }
  return Number(text);
}

function oneOf(name, text, allowed) {
  if (!allowed.includes(text))
    throw new UsageError(
      `--${name} must be ${allowed.join(', ').replace(/, (?=[^,]*$)/, ' or ')}, not "${text}"`,
    );
  return text;
}

/** @throws UsageError */
export function optionsOf(args) {
  let given;
  try {
    given = parseArgs({
      args,
      options: {
        host: { type: 'string' },
        only: { type: 'string' },
        connections: { type: 'string' },
        rounds: { type: 'string' },
        quick: { type: 'boolean' },
        results: { type: 'string' },
        help: { type: 'boolean' },
      },
    }).values;
  } catch (error) {
    throw new UsageError(error.message);
  }
  if (given.results === '') throw new UsageError('--results must be a folder');
  const usual = given.quick ? QUICK : FULL;
  const connections =
    given.connections === undefined
      ? usual.connections
      : wholeNumber('connections', given.connections, 20, 60_000);
  const only =
    given.only === undefined
      ? CONTESTANTS
      : [...new Set(given.only.split(',').map((name) => oneOf('only', name, CONTESTANTS)))];
  return {
    ...usual,
    help: given.help === true,
    isQuick: given.quick === true,
    hosts: given.host === undefined ? HOSTS : [oneOf('host', given.host, HOSTS)],
    // In their own order, however they were named.
    contestants: CONTESTANTS.filter((name) => only.includes(name)),
    connections,
    rounds: given.rounds === undefined ? usual.rounds : wholeNumber('rounds', given.rounds, 1, 99),
    rate: Math.max(1, Math.round(connections * RATE)),
    results: given.results ?? usual.results,
  };
}
