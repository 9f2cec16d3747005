import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import {
  ADMISSION_TABLE,
  type AdmissionEvent,
  type AdmissionState,
} from '../dist/guard/admission.js';
import { inFull } from './fixtures/long.js';
import { until } from './fixtures/until.js';
import {
  cleanUp,
  type Server,
  ServerProcess,
  SERVERS,
  start,
  startAlone,
} from './servers/start.js';

// The table of admissions on real sockets, on every host: each event that a client or an operator can cause in
// a state. The other rows say why nobody outside can cause them; `admission.spec.ts` has all of them.

/** Why a row is not here. */
const INSIDE = {
  turn: 'the state lasts no longer than a turn of the event loop',
  guard: 'the guard itself ends the wait before, or asks nothing more',
  host: 'the host reports an upgrade and an opening once for a socket',
  reload: 'a guard is replaced with Bun.serve only: seats.spec.ts',
  nothing: 'the socket is gone, and nothing can be said to it',
  state: 'the state is left for good before',
  cluster: 'only with a cluster: cluster.spec.ts',
} as const;

interface Case {
  readonly server: Server;
  readonly socket: Socket;
  readonly seen: () => string;
  readonly isOnBun: boolean;
}
type Act = (at: Case) => unknown;

const text = (frame: number, payload: string): Buffer =>
  Buffer.concat([Buffer.from([frame, 0x80 | payload.length, 0, 0, 0, 0]), Buffer.from(payload)]);
const CLOSE = text(0x88, '\u0003\u00e8');
/** A message that is no JSON: the guard closes its sender with 1007. */
const INVALID = text(0x81, 'no JSON');

/** The server of a row that needs a process of its own. */
function processOf(server: Server): ServerProcess {
  if (server instanceof ServerProcess) return server;
  throw new TypeError('a server among others in its process');
}

const destroy: Act = ({ socket }) => socket.destroy();
const finish: Act = ({ socket }) => socket.end();
const release: Act = ({ server }) => server.get('/release');
const wait: Act = () => undefined;

/** The events that can be caused from outside, with the seats and closing sockets after them. */
const OUTSIDE: Record<
  AdmissionState,
  Record<
    AdmissionEvent,
    [Act, seats: number, closing?: 'everywhere' | 'on Bun'] | keyof typeof INSIDE
  >
> = {
  arrived: {
    upgrade: [({ socket }) => socket.write(handshakeOf('waits')), 1],
    identity: 'turn',
    confirmation: 'cluster',
    refusal: 'turn',
    timeout: 'turn',
    reset: [destroy, 0],
    open: 'turn',
    close: 'turn',
    gone: [finish, 0],
    reload: 'reload',
    shutdown: 'turn',
  },
  seated: {
    upgrade: 'host',
    identity: [release, 1],
    confirmation: 'cluster',
    refusal: [release, 0],
    timeout: [wait, 0],
    reset: [destroy, 0],
    open: 'guard',
    close: 'guard',
    gone: [finish, 0],
    reload: 'reload',
    shutdown: 'guard',
  },
  asked: {
    upgrade: 'cluster',
    identity: 'cluster',
    confirmation: 'cluster',
    refusal: 'cluster',
    timeout: 'cluster',
    reset: 'cluster',
    open: 'cluster',
    close: 'cluster',
    gone: 'cluster',
    reload: 'cluster',
    shutdown: 'cluster',
  },
  granted: {
    upgrade: 'turn',
    identity: 'turn',
    confirmation: 'turn',
    refusal: 'turn',
    timeout: 'turn',
    reset: 'turn',
    open: 'turn',
    close: 'turn',
    gone: 'turn',
    reload: 'turn',
    shutdown: 'turn',
  },
  open: {
    upgrade: 'host',
    identity: 'guard',
    confirmation: 'cluster',
    refusal: 'guard',
    timeout: [wait, 0, 'everywhere'],
    reset: [destroy, 0],
    open: 'host',
    close: [({ socket }) => socket.write(INVALID), 0, 'everywhere'],
    gone: [({ socket }) => socket.end(CLOSE), 0],
    reload: 'reload',
    shutdown: [({ server }) => processOf(server).process.kill('SIGTERM'), 0],
  },
  closing: {
    upgrade: 'host',
    identity: 'guard',
    confirmation: 'cluster',
    refusal: 'guard',
    timeout: [wait, 0, 'on Bun'],
    reset: [destroy, 0, 'on Bun'],
    open: 'host',
    close: 'guard',
    gone: [({ socket }) => socket.end(CLOSE), 0, 'on Bun'],
    reload: 'reload',
    shutdown: 'state',
  },
  gone: {
    upgrade: 'nothing',
    identity: 'nothing',
    confirmation: 'nothing',
    refusal: 'nothing',
    timeout: 'nothing',
    reset: 'nothing',
    open: 'nothing',
    close: 'nothing',
    gone: 'nothing',
    reload: 'nothing',
    shutdown: 'nothing',
  },
};

const handshakeOf = (user: string): string =>
  [
    'GET /ws HTTP/1.1',
    'Host: 127.0.0.1',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    `X-User: ${user}`,
    '\r\n',
  ].join('\r\n');

interface Counts {
  readonly totalConnections: number;
  readonly closing: number;
}
const countsOf = async (server: Server): Promise<Counts> =>
  JSON.parse(await server.get('/stats')) as Counts;

/** Brings a client into a state, on a server whose timeouts are long but for the one that is to pass. */
async function reach(
  state: AdmissionState,
  event: AdmissionEvent,
  [name, command]: (typeof HOSTS)[number],
): Promise<Case> {
  const SHORT_MS = 150;
  const LONG_MS = 600_000;
  const isDue = (when: AdmissionState): number =>
    state === when && event === 'timeout' ? SHORT_MS : LONG_MS;
  const server = await (event === 'shutdown' ? startAlone : start)(command, {
    limits: { connectionTimeoutMs: isDue('open'), cleanupIntervalMs: 50 },
    identifyTimeoutMs: isDue('seated'),
    closeTimeoutMs: isDue('closing'),
    json: { maxDepth: 5 },
    whoAmI: 'header',
    shutdown: { preDrainDelayMs: 0, deadlineMs: 10_000 },
  });
  const waits = event === 'refusal' ? 'waits-nobody' : 'waits';
  const user = state === 'seated' ? waits : 'ada';
  const { socket, seen } = server.raw(state === 'arrived' ? '' : handshakeOf(user));
  const found = { server, socket, seen, isOnBun: name === 'bun' || name === 'elysia' };
  if (state === 'arrived') return found;
  await server.becomes(1);
  if (state === 'seated') return found;
  await until(() => seen().startsWith('HTTP/1.1 101'));
  if (state === 'open') return found;
  socket.write(INVALID);
  await until(async () => (await countsOf(server)).closing === 1);
  return found;
}

// `PORTCULLIS_LONG=1` adds the two hosts that share their sockets with these.
const HOSTS = Object.entries(SERVERS).filter(([name]) =>
  inFull(name === 'bun' || name === 'ws', true),
);
const rows = Object.keys(ADMISSION_TABLE).flatMap((state) =>
  Object.keys(ADMISSION_TABLE[state as AdmissionState]).map(
    (event) => [state, event] as [AdmissionState, AdmissionEvent],
  ),
);
const driven = rows.filter(([state, event]) => typeof OUTSIDE[state][event] !== 'string');

it('has a way to cause each row of the table, or a reason why there is none', () => {
  expect(rows).toHaveLength(77);
  const reasons = rows.map(([state, event]) => OUTSIDE[state][event]);
  expect(reasons.every((row) => typeof row !== 'string' || row in INSIDE)).toBe(true);
  expect(driven).toHaveLength(16);
});

describe.each(HOSTS)('the adapter for %s', (...host) => {
  // The rows run at the same time.
  afterAll(cleanUp);
  it.concurrent.each(driven)('in state %s, at %s', async (state, event) => {
    const [act, seats, closing] = OUTSIDE[state][event] as [Act, number, string?];
    const at = await reach(state, event, host);
    const { server, socket, isOnBun } = at;
    if (event === 'shutdown') {
      act(at);
      // A close frame with 1001, and the end of the process.
      await until(() => at.seen().includes('\u0088'));
      socket.end(CLOSE);
      expect(await processOf(server).exited).toBe(0);
      return;
    }
    await act(at);
    const isStillClosing = closing === 'everywhere' || (closing === 'on Bun' && isOnBun);
    let counts: Counts | undefined;
    await until(
      async () => {
        counts = await countsOf(server);
        return counts.totalConnections === seats && counts.closing === (isStillClosing ? 1 : 0);
      },
      () => JSON.stringify(counts),
    );
    if (state === 'seated' && event === 'identity')
      await until(() => at.seen().startsWith('HTTP/1.1 101'));
    if (state === 'closing' && event === 'timeout' && !isOnBun)
      expect(socket.destroyed || (await once(socket, 'close')).length > 0).toBe(true);
  });
});
