// Trials at the borders of the guard: handshakes that never end or are joined by a proxy, sockets
// that stay after their seat, floods of control frames, identities that come too late.
import { checkMemory } from '../memory-check.mjs';
import { RawClient, frame, handshakeText } from '../raw-clients.mjs';
import { Server } from '../process.mjs';
import { inParallel } from '../in-parallel.mjs';

const pause = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));

/** A good client beside the others: it must be answered at any time. */
async function mustAnswer(client, text) {
  client.write(frame(1, Buffer.from(text)));
  if (!(await client.sees((seen) => seen.includes(text))))
    throw new Error(`a good client got no answer: ${client.seen}`);
}

async function admitted(server, source, lines) {
  const client = new RawClient(server.port, source);
  if (!(await client.opens(lines))) throw new Error(`a client was not admitted: ${client.seen}`);
  return client;
}

/**
 * Clients that send their header in pieces and leave before its end: none of them may hold a seat,
 * and no socket may stay.
 * @param {import('../plan.mjs').Context} context
 */
export async function slowHandshakes({ host, random, counts, tell }) {
  const server = await Server.start(host, { limits: { maxConnectionsPerIp: 1000 } });
  const memory = await checkMemory(server, counts.slowHandshakes, tell, async (at) => {
    const client = new RawClient(server.port, at);
    const text = handshakeText({ 'X-Slow': 'x'.repeat(random.below(200)) });
    const end = 1 + random.below(text.length - 2);
    for (let from = 0; from < end && !client.isClosed;) {
      const to = Math.min(end, from + 1 + random.below(60));
      client.write(text.slice(from, to));
      from = to;
      await pause(random.below(4));
    }
    if (random.next() < 0.5) await client.reset();
    else {
      client.socket.end();
      await client.closed;
    }
  });
  const good = await admitted(server, 0);
  await mustAnswer(good, 'still here');
  await good.reset();
  const seen = await server.settle(counts.waitsForClosing);
  if (seen.admitted !== 1) throw new Error(`${seen.admitted} clients were admitted instead of one`);
  return `${counts.slowHandshakes} clients dribbled a part of a header and left; ${memory}`;
}

const SEATS = 40;
const SEATS_PER_IP = 10;
const CLOSING = 20;
const CLOSING_PER_IP = 5;

/**
 * Refused sockets whose clients never answer the close frame: the process has no more sockets than
 * seats and closing sockets.
 * @param {import('../plan.mjs').Context} context
 */
export async function silentClosers({ host, counts, tell }) {
  const server = await Server.start(host, {
    limits: {
      maxConnectionsPerIp: SEATS_PER_IP,
      maxTotalConnections: SEATS,
      maxClosingPerIp: CLOSING_PER_IP,
      maxClosingConnections: CLOSING,
    },
    refuseWith: 'close',
    // Longer than the wait below: only the bounds end a socket.
    closeTimeoutMs: 120_000,
  });
  let most = 0;
  let terminated = 0;
  for (let wave = 0; wave < counts.closingWaves; wave++) {
    const clients = Array.from(
      { length: counts.closingClients },
      (_, at) => new RawClient(server.port, at % 6),
    );
    for (const client of clients) client.write(handshakeText());
    // Each has its answer, or was terminated.
    await Promise.all(clients.map((client) => client.status()));
    most = Math.max(most, await server.atMostSockets(SEATS + CLOSING));
    const seen = await server.figures();
    if (seen.seats > SEATS || seen.closing > CLOSING)
      throw new Error(`${seen.seats} seats and ${seen.closing} closing sockets`);
    ({ terminated } = seen);
    await Promise.all(clients.map((client) => client.reset()));
    await server.seats(0);
    tell(`${wave + 1} of ${counts.closingWaves}`);
  }
  if (terminated === 0) throw new Error('no socket was terminated');
  await server.settle(counts.waitsForClosing);
  return `${counts.closingWaves} waves of ${counts.closingClients} clients that never answer a close: ${most} sockets at most, ${terminated} terminated`;
}

const FLOODS_AT_ONCE = 16;

/**
 * Clients that send pings without reading are closed by `controlRate`; one that pings now and then
 * stays.
 * @param {import('../plan.mjs').Context} context
 */
export async function pingFloods({ host, counts, tell }) {
  const server = await Server.start(host, { limits: {} });
  const good = await admitted(server, 0);
  const ping = frame(9, Buffer.alloc(125));
  const flood = Buffer.concat(Array.from({ length: 5000 }, () => ping));
  for (let from = 0; from < counts.pingFloods; from += FLOODS_AT_ONCE) {
    const width = Math.min(FLOODS_AT_ONCE, counts.pingFloods - from);
    const clients = await Promise.all(
      Array.from({ length: width }, (_, at) => admitted(server, from + at)),
    );
    for (const client of clients) {
      client.socket.pause();
      client.write(flood);
    }
    good.write(frame(9, Buffer.from('p')));
    // A client that reads nothing does not see its end: the server's figures tell.
    await server.seats(1);
    await Promise.all(clients.map((client) => client.reset()));
    tell(`${from + width} of ${counts.pingFloods}`);
  }
  const { messagesOverRate } = await server.seats(1);
  if (messagesOverRate !== counts.pingFloods)
    throw new Error(`${messagesOverRate} of ${counts.pingFloods} floods were closed`);
  await mustAnswer(good, 'still here');
  await good.reset();
  await server.settle(counts.waitsForClosing);
  return `${counts.pingFloods} floods of 5,000 pings closed, the client beside them stayed`;
}

/** Values of `Upgrade` that a proxy makes of duplicate lines, and one that names no WebSocket. */
const UPGRADES = [
  'websocket, x',
  'x, websocket',
  'websocket,websocket',
  ' websocket ,, h2c',
  'WebSocket',
  'websocket',
];

/** Writes a list that ends with one client as a proxy might, behind forged and empty elements. */
const listOf = (address, random) =>
  random.pick([
    address,
    `,${address}`,
    `, , ${address}`,
    `${address},`,
    `, ,${address} , `,
    `198.51.100.${random.below(250)},${address}`,
    `unknown,${address}\t`,
    `${address}, 127.0.0.9`,
  ]);

/**
 * A trusted proxy that joins header lines. An opened socket was judged, under the client's address.
 * @param {import('../plan.mjs').Context} context
 */
export async function joinedHeaders({ host, random, counts, tell }) {
  const server = await Server.start(host, {
    limits: { maxConnectionsPerIp: 1 },
    trustedProxies: ['127.0.0.0/8'],
    identifyMs: 0,
  });
  let opened = 0;
  await inParallel(counts.joined, 32, async (at) => {
    const address = `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`;
    const lines = () => ({ 'X-Forwarded-For': listOf(address, random) });
    const first = new RawClient(server.port, at);
    if (!(await first.opens({ ...lines(), Upgrade: UPGRADES[at % UPGRADES.length] })))
      return void (await first.reset());
    opened++;
    const second = new RawClient(server.port, at);
    await second.opens(lines());
    if ((await second.status()) !== 429)
      throw new Error(`two sockets of ${address}, which may have one: ${second.seen}`);
    await Promise.all([first.reset(), second.reset()]);
    tell(`${at} of ${counts.joined}`);
  });
  const { identified } = await server.settle(counts.waitsForClosing);
  if (identified < opened) throw new Error(`${opened} sockets opened, ${identified} identified`);
  // The plain value opens on every host; the others where the host takes them.
  if (opened < Math.floor(counts.joined / UPGRADES.length))
    throw new Error(`only ${opened} of ${counts.joined} sockets opened`);
  return `${counts.joined} handshakes with joined headers: ${opened} opened, each judged by its own address`;
}

/**
 * Clients that leave while their identity is looked up: each gives its seat back.
 * @param {import('../plan.mjs').Context} context
 */
export async function lateIdentities({ host, random, counts, tell }) {
  const server = await Server.start(host, {
    limits: { maxConnectionsPerIp: 1000 },
    maxPendingHandshakes: 1000,
    identifyMs: 30,
  });
  const memory = await checkMemory(server, counts.identities, tell, async (at) => {
    const client = new RawClient(server.port, at);
    client.write(handshakeText());
    if (random.next() < 0.2) await client.status();
    else await pause(random.below(40));
    if (random.next() < 0.5) await client.reset();
    else {
      client.socket.end();
      await client.closed;
    }
  });
  const { identified, admitted: opened } = await server.settle(counts.waitsForClosing);
  if (identified === 0 || opened === 0)
    throw new Error(`${identified} clients were identified, ${opened} admitted`);
  return `${counts.identities} clients, ${identified} identified, ${opened} of them in time; ${memory}`;
}

/**
 * Bursts above every internal batch (64 connections of a sweep, 64 released slots, 32 refusals in a
 * turn): so many clients at once that most are refused, then all seats end at once, by the idle
 * timeout or by resets.
 * @param {import('../plan.mjs').Context} context
 */
export async function bursts({ host, counts, tell }) {
  const seats = counts.burstSeats;
  const server = await Server.start(host, {
    limits: {
      maxTotalConnections: seats,
      connectionTimeoutMs: 800,
      cleanupIntervalMs: 50,
    },
  });
  let refused = 0;
  for (let round = 0; round < counts.bursts; round++) {
    const clients = Array.from({ length: 3 * seats }, (_, at) => new RawClient(server.port, at));
    for (const client of clients) client.write(handshakeText());
    const statuses = await Promise.all(clients.map((client) => client.status()));
    const opened = statuses.filter((status) => status === 101).length;
    // A slow machine may already have evicted some, whose seats are taken again.
    if (opened < seats || statuses.some((status) => status !== 101 && status !== 503))
      throw new Error(`${opened} opened, answers ${[...new Set(statuses)]}`);
    refused += statuses.length - opened;
    if (round % 2 === 1) await Promise.all(clients.map((client) => client.reset()));
    await server.seats(0);
    await Promise.all(clients.map((client) => client.reset()));
    tell(`${round + 1} of ${counts.bursts}`);
  }
  const { evicted } = await server.settle(counts.waitsForClosing);
  return `${counts.bursts} bursts of ${3 * seats} clients, ${refused} refused, ${evicted} evicted`;
}
