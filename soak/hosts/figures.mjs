// The options of every server of the soak, and the figures that a server reports.
import { TimerManager, TokenVerifier } from '../../dist/index.js';

const { keys, identifyMs, ...rest } = JSON.parse(process.env.SOAK_OPTIONS ?? '{}');
const verifier =
  keys === undefined
    ? undefined
    : new TokenVerifier({
        keys,
        algorithms: ['HS256', 'RS256', 'PS384', 'ES256', 'ES512', 'EdDSA'],
        audience: null,
      });

let identified = 0;
/** Admits every client without a user, after a random time of at most `identifyMs`. */
async function identify() {
  identified++;
  await new Promise((resolve) => void setTimeout(resolve, Math.random() * identifyMs));
  return undefined;
}

export const timers = new TimerManager();
/** A short `closeTimeoutMs`: a trial waits until silent clients are terminated. */
export const options = {
  closeTimeoutMs: 500,
  ...rest,
  timers,
  ...(verifier === undefined ? {} : { auth: verifier }),
  ...(identifyMs === undefined ? {} : { identify }),
};

/** Returns the memory figures of the host after a garbage collection. */
async function memory() {
  if ('bun' in process.versions) {
    const { heapStats } = await import('bun:jsc');
    Bun.gc(true);
    Bun.gc(true);
    return { rss: process.memoryUsage.rss(), objects: heapStats().objectCount };
  }
  globalThis.gc();
  globalThis.gc();
  return { rss: process.memoryUsage.rss(), heap: process.memoryUsage().heapUsed };
}

/** Returns the answer to a request of the soak; `undefined` for any other path. */
export async function answer(url, guard) {
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  if (pathname === '/stall') {
    // Blocks the loop and leaves the core to the clients.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, Number(searchParams.get('ms')));
    return 'stalled';
  }
  if (pathname === '/memory') return JSON.stringify(await memory());
  if (pathname !== '/figures') return undefined;
  const {
    totalConnections,
    connectionsByIp,
    connectionsByUser,
    anonymousConnections,
    admitted,
    evicted,
    refused,
    closing,
    terminated,
    messagesOverRate,
  } = guard.manager.snapshot();
  return JSON.stringify({
    seats: totalConnections,
    ips: connectionsByIp,
    users: connectionsByUser,
    anonymous: anonymousConnections,
    live: guard.manager.connections.size,
    timers: timers.getActiveTimersCount(),
    admitted,
    evicted,
    refused,
    closing,
    terminated,
    messagesOverRate,
    identified,
    authDenials: guard.snapshot().authDenials,
    ...guard.snapshot().websockets,
  });
}

/**
 * Echoes a message; answers `flood` with 16 MiB, more than the buffers of a client that does not
 * read.
 */
export function reply(message, send) {
  if (String(message) !== 'flood') return void send(message);
  const part = 'x'.repeat(2 ** 16);
  for (let i = 0; i < 256; i++) send(part);
}

// Unhandled errors are printed and do not end the process: the trial fails when it reads them.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error) => console.log(`unhandled ${event}: ${error?.stack ?? error}`));
