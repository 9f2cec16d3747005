import { readdirSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import type { WebSocket } from 'ws';
import {
  ask,
  closeCode,
  type Server,
  type ServerProcess,
  SERVERS,
  cleanUp,
  start,
  startAlone,
} from './servers/start.js';
import { until } from './fixtures/until.js';

// A seat before the identity, and no descriptor beyond the seats: on every adapter and host.

afterEach(cleanUp);

const HANDSHAKE = (lines: readonly string[] = []): string =>
  [
    'GET /ws HTTP/1.1',
    'Host: 127.0.0.1',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    ...lines,
  ].join('\r\n') + '\r\n\r\n';

/** A masked ping without a payload. */
const PING = Buffer.from([0x89, 0x80, 0, 0, 0, 0]);
/** A masked text frame. */
const textFrame = (text: string): Buffer =>
  Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)]);

interface Client {
  readonly socket: Socket;
  seen(): string;
  isClosed: boolean;
}

/** Sends so many handshakes at once, each on a connection of its own that never answers a close. */
function crowd(server: Server, count: number, lines?: readonly string[]): readonly Client[] {
  return Array.from({ length: count }, () => {
    const { socket, seen, closed } = server.raw(HANDSHAKE(lines));
    const client: Client = { socket, seen, isClosed: false };
    void closed.then(() => (client.isClosed = true));
    return client;
  });
}

const statusOf = ({ seen }: Client): number => Number(/^HTTP\/1\.1 (\d+)/.exec(seen())?.[1] ?? 0);
const counted = (clients: readonly Client[], status: number): number =>
  clients.filter((client) => statusOf(client) === status).length;
const tallyOf = async (server: Server): Promise<Record<string, number>> =>
  JSON.parse(await server.get('/tally')) as Record<string, number>;

/** Sockets that a process has open. */
function descriptorsOf(server: ServerProcess): number {
  const folder = `/proc/${server.process.pid}/fd`;
  return readdirSync(folder).filter((name) => {
    try {
      return readlinkSync(`${folder}/${name}`).startsWith('socket:');
    } catch {
      return false;
    }
  }).length;
}

it('gives the seats of sockets back that a former guard of a reloaded Bun server has opened', async () => {
  const server = await start(['node_modules/.bin/bun', '__test__/servers/reload.ts'], {});
  const clients = [await server.open(), await server.open()];
  await server.becomes(2);
  await server.get('/reload');
  expect(await ask(clients[0]!, 'still here')).toBe('still here');
  for (const client of clients) client.close();
  await server.becomes(0);
});

it('takes no seat of a former guard for the sockets of a reloaded Bun server', async () => {
  const server = await start(['node_modules/.bin/bun', '__test__/servers/reload.ts'], {});
  const first = await server.open();
  const totals = async (): Promise<unknown> => JSON.parse(await server.get('/totals'));
  await server.get('/reload');
  const second = await server.open();
  expect(await ask(second, 'here')).toBe('here');
  expect(await totals()).toEqual([1, 1]);
  await server.get('/reload');
  const third = await server.open();
  expect(await totals()).toEqual([1, 1, 1]);
  for (const client of [first, second, third]) client.close();
  await expect.poll(totals).toEqual([0, 0, 0]);
});

describe.each(Object.entries(SERVERS))('the adapter for %s', (name, command) => {
  it('asks for no more identities at once than an address has seats', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 2 }, whoAmI: 'header' });
    const clients = crowd(server, 100, ['X-User: waits']);
    await until(() => counted(clients, 429) === 98);
    expect(await server.total()).toBe(2);
    await server.get('/release');
    await until(() => counted(clients, 101) === 2);
    expect((await tallyOf(server))['mostIdentifying']).toBe(2);
    expect((await tallyOf(server))['identified']).toBe(2);
  });

  it('lets no more handshakes wait than maxPendingHandshakes, and of one address', async () => {
    const server = await start(command, {
      limits: {},
      whoAmI: 'header',
      maxPendingHandshakes: 7,
      maxPendingHandshakesPerIp: 5,
      trustedProxies: ['127.0.0.1'],
    });
    const near = crowd(server, 9, ['X-User: waits', 'X-Forwarded-For: 192.0.2.1']);
    await until(() => counted(near, 429) === 4);
    const far = crowd(server, 9, ['X-User: waits', 'X-Forwarded-For: 192.0.2.2']);
    await until(() => counted(far, 503) === 7);
    expect(near.filter(({ seen }) => seen().includes('pending_ip_limit'))).toHaveLength(4);
    expect(far.filter(({ seen }) => seen().includes('pending_limit'))).toHaveLength(7);
    await server.get('/release');
    await until(() => counted([...near, ...far], 101) === 7);
    expect(await server.total()).toBe(7);
  });

  it('spends the connect rate of a client that cannot be identified', async () => {
    const server = await start(command, {
      limits: { connectRatePerIp: { limit: 3, windowMs: 3_600_000 } },
      whoAmI: 'header',
    });
    const statuses: number[] = [];
    for (let i = 0; i < 5; i++)
      statuses.push((await server.handshake({ 'X-User': 'nobody' })).status);
    expect(statuses).toEqual([401, 401, 401, 429, 429]);
    expect((await tallyOf(server))['identified']).toBe(3);
    expect(await server.total()).toBe(0);
  });

  it('has the seat back as soon as a client leaves that waits for its identity', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 3 }, whoAmI: 'header' });
    const clients = crowd(server, 3, ['X-User: waits']);
    await server.becomes(3);
    for (const { socket } of clients) socket.resetAndDestroy();
    // The identities still wait: the test has not released them.
    await server.becomes(0);
    expect((await tallyOf(server))['identifying']).toBe(3);
    const next = crowd(server, 1, ['X-User: waits']);
    await server.becomes(1);
    await server.get('/release');
    await until(() => counted(next, 101) === 1);
    expect(await server.total()).toBe(1);
  });

  it('has the seat back as soon as a waiting client ends its side, whatever it has sent before', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerIp: 3 },
      whoAmI: 'header',
      identifyTimeoutMs: 600_000,
    });
    for (const early of [PING, Buffer.alloc(70_000, PING)]) {
      const clients = crowd(server, 3, ['X-User: waits']);
      await server.becomes(3);
      for (const { socket } of clients) socket.write(early);
      await server.total();
      for (const { socket } of clients) socket.end();
      await server.becomes(0);
    }
  });

  // Bun.serve itself drops them.
  const readsEarly = name.startsWith('ws');
  it.runIf(readsEarly)('hands the bytes of a client that does not wait to its socket', async () => {
    const server = await start(command, { limits: {}, whoAmI: 'header' });
    const [client] = crowd(server, 1, ['X-User: waits']);
    await server.becomes(1);
    for (const message of ['one', 'two']) {
      client!.socket.write(textFrame(message));
      await server.total();
    }
    await server.get('/release');
    await until(() => /^HTTP\/1\.1 101 [^]*one[^]*two/.test(client!.seen()));
    client!.socket.write(textFrame('three'));
    await until(() => client!.seen().endsWith('three'));
  });

  it('has the seat back when an identity takes too long', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerIp: 1 },
      whoAmI: 'header',
      identifyTimeoutMs: 50,
    });
    const [client] = crowd(server, 1, ['X-User: waits']);
    await until(() => statusOf(client!) === 500);
    expect(await server.total()).toBe(0);
  });

  it('keeps no more descriptors than seats and closing sockets, whoever does not answer', async () => {
    const server = await startAlone(command, {
      limits: { maxConnectionsPerIp: 10, maxClosingPerIp: 5 },
      refuseWith: 'close',
    });
    await server.total();
    const before = descriptorsOf(server);
    const clients = crowd(server, 200);
    await until(() => clients.filter(({ isClosed }) => isClosed).length >= 185);
    expect(await server.total()).toBe(10);
    const { closing, terminated } = JSON.parse(await server.get('/stats')) as {
      closing: number;
      terminated: number;
    };
    expect([closing, terminated]).toEqual([5, 185]);
    // One for the question itself, kept alive.
    expect(descriptorsOf(server) - before).toBeLessThanOrEqual(16);
  });

  it('closes a client that floods it with pings and reads nothing', async () => {
    const server = await start(command, { limits: {} });
    const [client] = crowd(server, 1);
    await until(() => statusOf(client!) === 101);
    client!.socket.pause();
    // Masked pings of 125 bytes.
    const ping = Buffer.concat([Buffer.from([0x89, 0xfd, 0, 0, 0, 0]), Buffer.alloc(125)]);
    client!.socket.write(Buffer.concat(Array.from({ length: 5000 }, () => ping)));
    await server.becomes(0);
    const { messagesOverRate } = JSON.parse(await server.get('/stats')) as Record<string, number>;
    expect(messagesOverRate).toBe(1);
  });

  it('reads nothing more of a flood once it has closed the client', async () => {
    const server = await start(command, {
      limits: { messageRate: { limit: 10, windowMs: 3_600_000 } },
    });
    const client: WebSocket = await server.open();
    const closed = closeCode(client);
    for (let i = 0; i < 50; i++) client.send('x'.repeat(1000));
    await server.becomes(0);
    // The socket is not read: what the client sends fills its own buffers.
    const flood = 'x'.repeat(2 ** 20);
    for (let i = 0; i < 8 && client.readyState === client.OPEN; i++) client.send(flood);
    const code = await closed;
    // Bun cannot pause a socket: it is terminated there.
    expect(name.includes('ws') ? [1008, 1006] : [1006]).toContain(code);
  });
});
