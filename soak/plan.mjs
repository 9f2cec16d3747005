// The trials: their names, their counts, and the hosts that run them.
import { SeededRandom } from './seeded-random.mjs';
import { HOSTS, killAll } from './process.mjs';
import {
  bursts,
  joinedHeaders,
  lateIdentities,
  pingFloods,
  silentClosers,
  slowHandshakes,
} from './trials/borders.mjs';
import { halfOpen, killed, slowReaders, stalled } from './trials/clients.mjs';
import { connects } from './trials/connects.mjs';
import { exits, leases, model, workers } from './trials/inside.mjs';
import { garbage, handshakes, tokens } from './trials/junk.mjs';

/**
 * @typedef {object} Context
 * @property {typeof HOSTS['ws']} host
 * @property {string} seed
 * @property {SeededRandom} random
 * @property {Record<string, number>} counts
 * @property {(progress: string) => void} tell
 */

/**
 * The trials in the order in which they run. `INSIDE` ones run within a host, once on each runtime.
 */
export const TRIALS = {
  connects,
  killed,
  halfOpen,
  slowReaders,
  stalled,
  garbage,
  handshakes,
  tokens,
  slowHandshakes,
  silentClosers,
  pingFloods,
  joinedHeaders,
  lateIdentities,
  bursts,
  workers,
  exits,
  model,
  leases,
};
const INSIDE = ['workers', 'exits', 'model', 'leases'];

export const FULL = {
  cycles: 100_000,
  poolClients: 100,
  poolRounds: 10,
  slowReaders: 50,
  stalls: 3,
  stallMs: 4000,
  idleMs: 3000,
  pongMs: 3000,
  garbage: 20_000,
  handshakes: 20_000,
  tokens: 20_000,
  slowHandshakes: 20_000,
  closingWaves: 20,
  closingClients: 300,
  pingFloods: 200,
  joined: 5000,
  identities: 20_000,
  bursts: 20,
  burstSeats: 200,
  waitsForClosing: true,
  leaseSeconds: 120,
  workers: 100,
  exits: 5,
  batch: 1300,
  operations: 20_000,
  rushes: 30,
};
/** The counts of the tests. */
export const SHORT = {
  ...FULL,
  cycles: 400,
  poolClients: 10,
  poolRounds: 1,
  slowReaders: 4,
  stalls: 1,
  stallMs: 1600,
  idleMs: 1200,
  pongMs: 1000,
  garbage: 100,
  handshakes: 100,
  tokens: 0,
  slowHandshakes: 64,
  closingWaves: 1,
  closingClients: 120,
  pingFloods: 4,
  joined: 60,
  identities: 100,
  bursts: 1,
  burstSeats: 80,
  waitsForClosing: false,
  leaseSeconds: 6,
  workers: 6,
  exits: 1,
  batch: 300,
  operations: 600,
  rushes: 2,
};

/** Returns the names of the trials of a host. */
export const trialsOf = (hostName) =>
  Object.keys(TRIALS).filter((trial) => hostName !== 'bun' || !INSIDE.includes(trial));

/**
 * Runs a trial on a host. Never rejects.
 * @returns {Promise<{ isGood: boolean, text: string, ms: number }>} the result or the error, as
 *   text
 */
export async function attempt(hostName, trial, seed, counts, tell) {
  const began = performance.now();
  const own = `${seed} ${hostName} ${trial}`;
  try {
    const text = await TRIALS[trial]({
      host: HOSTS[hostName],
      seed: own,
      random: new SeededRandom(own),
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
