// What is tried, how much of it, and on which hosts.
import { Dice } from './dice.mjs';
import { HOSTS, killAll } from './process.mjs';
import { deaf, halfOpen, killed, stalled } from './trials/clients.mjs';
import { connects } from './trials/connects.mjs';
import { exits, model, workers } from './trials/inside.mjs';
import { garbage, handshakes, tokens } from './trials/junk.mjs';

/**
 * @typedef {object} Context
 * @property {typeof HOSTS['ws']} host
 * @property {string} seed
 * @property {Dice} dice
 * @property {Record<string, number>} counts
 * @property {(progress: string) => void} tell
 */

/** In the order they run. Those that run inside of a host do so once on each runtime. */
export const TRIALS = {
  connects,
  killed,
  halfOpen,
  deaf,
  stalled,
  garbage,
  handshakes,
  tokens,
  workers,
  exits,
  model,
};
const INSIDE = ['workers', 'exits', 'model'];

export const FULL = {
  cycles: 100_000,
  herd: 100,
  herds: 10,
  deaf: 50,
  stalls: 3,
  stallMs: 4000,
  idleMs: 3000,
  pongMs: 3000,
  garbage: 20_000,
  handshakes: 20_000,
  tokens: 20_000,
  workers: 100,
  exits: 5,
  batch: 1300,
  operations: 20_000,
  rushes: 30,
};
/** For the tests. */
export const SHORT = {
  ...FULL,
  cycles: 400,
  herd: 10,
  herds: 1,
  deaf: 4,
  stalls: 1,
  stallMs: 1600,
  idleMs: 1200,
  pongMs: 1000,
  garbage: 100,
  handshakes: 100,
  tokens: 0,
  workers: 6,
  exits: 1,
  batch: 300,
  operations: 600,
  rushes: 2,
};

/** What is tried on a host. */
export const trialsOf = (hostName) =>
  Object.keys(TRIALS).filter((trial) => hostName !== 'bun' || !INSIDE.includes(trial));

/**
 * Tries one thing on one host. Never rejects.
 * @returns {Promise<{ isGood: boolean, text: string, ms: number }>} what was done, or what went wrong
 */
export async function attempt(hostName, trial, seed, counts, tell) {
  const began = performance.now();
  const own = `${seed} ${hostName} ${trial}`;
  try {
    const text = await TRIALS[trial]({
      host: HOSTS[hostName],
      seed: own,
      dice: new Dice(own),
      counts,
      tell,
    });
    return { isGood: true, text, ms: performance.now() - began };
  } catch (error) {
    return { isGood: false, text: error.message, ms: performance.now() - began };
  } finally {
    await killAll();
  }
}
