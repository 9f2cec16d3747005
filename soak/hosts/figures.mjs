// What every server of the soak is told, and what it tells of itself.
import { TimerManager, TokenVerifier } from '../../dist/index.js';

const { keys, ...rest } = JSON.parse(process.env.SOAK_OPTIONS ?? '{}');
const verifier =
  keys === undefined
    ? undefined
    : new TokenVerifier({
        keys,
        algorithms: ['HS256', 'RS256', 'PS384', 'ES256', 'ES512', 'EdDSA'],
        audience: null,
      });

export const timers = new TimerManager();
/** A client has to wait for its `terminate()` no longer than a trial. */
export const options = {
  closeTimeoutMs: 500,
  ...rest,
  timers,
  ...(verifier === undefined ? {} : { auth: verifier }),
};

/** As much as the host can tell after a collection. */
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

/** Answers what is asked of the server itself; `undefined` if it is something else. */
export async function answer(url, guard) {
  const { pathname, searchParams } = new URL(url, 'http://localhost');
  if (pathname === '/stall') {
    for (const end = performance.now() + Number(searchParams.get('ms')); performance.now() < end;);
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
    authDenials: guard.stats().authDenials,
    ...guard.stats().websockets,
  });
}

/** The answer to a message: itself, or more than a client that does not read can take. */
export function reply(message, send) {
  if (String(message) !== 'flood') return void send(message);
  const part = 'x'.repeat(2 ** 16);
  for (let i = 0; i < 256; i++) send(part);
}

// Heard and said aloud: the trial fails for it.
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (error) => console.log(`unheard ${event}: ${error?.stack ?? error}`));
