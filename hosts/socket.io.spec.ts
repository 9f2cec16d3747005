import { once } from 'node:events';
import { io, type Socket } from 'socket.io-client';
import WebSocket from 'ws';
import { afterEach, describe, expect, it } from 'vitest';
import { cleanUp, type Server, start as begin } from '../__test__/servers/start.js';
import { until } from '../__test__/fixtures/until.js';
import { SECRET, token } from '../__test__/fixtures/sign.js';

const SERVERS = {
  'Socket.IO on Node': ['node', 'hosts/servers/socket.io.mjs'],
  'Socket.IO on Bun, by its node:http': ['node_modules/.bin/bun', 'hosts/servers/socket.io.mjs'],
  '@socket.io/bun-engine': ['node_modules/.bin/bun', 'hosts/servers/socket.io-bun.ts'],
} as const;

type Transports = ('polling' | 'websocket')[];
const POLLING: Transports = ['polling'];
const WEBSOCKET: Transports = ['websocket'];
const BOTH: Transports = ['polling', 'websocket'];
const ENGINE = '/socket.io/?EIO=4&transport=';

const clients: Socket[] = [];
const sockets: WebSocket[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.disconnect();
  for (const socket of sockets.splice(0)) socket.terminate();
  await cleanUp();
});

const start = (
  command: readonly [string, string],
  options: object,
  engine: object = {},
): Promise<Server> => begin(command, options, { ENGINE_OPTIONS: JSON.stringify(engine) });

function clientOf(
  server: Server,
  transports: Transports,
  extraHeaders: Record<string, string> = {},
): Socket {
  const client = io(`http://127.0.0.1:${server.port}`, {
    transports,
    extraHeaders,
    forceNew: true,
    reconnection: false,
    closeOnBeforeunload: false,
  });
  clients.push(client);
  return client;
}

/** Connects a client, and waits for its last transport. */
async function open(
  server: Server,
  transports: Transports,
  headers: Record<string, string> = {},
): Promise<Socket> {
  const client = clientOf(server, transports, headers);
  const { engine } = client.io;
  await new Promise<void>((resolve, reject) => {
    client.once('connect', resolve);
    client.once('connect_error', reject);
  });
  const last = transports.at(-1);
  await until(async () => (await figures(client))[1] === last && engine.transport.name === last);
  return client;
}

/** A refused client: the status of its handshake. */
async function refused(
  server: Server,
  transports: Transports,
  headers: Record<string, string> = {},
): Promise<unknown> {
  const client = clientOf(server, transports, headers);
  const [error] = (await new Promise<unknown[]>((resolve, reject) => {
    client.once('connect_error', (...given: unknown[]) => resolve(given));
    client.once('connect', () => reject(new Error('admitted')));
  })) as [{ description?: unknown }];
  const { description } = error;
  return typeof description === 'number'
    ? description
    : Number(/(\d{3})/.exec(String((description as { message?: string }).message))?.[1]);
}

const ask = (client: Socket, event: string, ...data: unknown[]): Promise<unknown> =>
  client.timeout(10_000).emitWithAck(event, ...data) as Promise<unknown>;

type Figures = [number, number, number, string, string | null];
function figures(client: Socket): Promise<[Figures, string]> {
  return new Promise((resolve) =>
    client.emit('figures', (given: Figures, transport: string) => resolve([given, transport])),
  );
}

interface Polled {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

async function poll(server: Server, query = '', init: RequestInit = {}): Promise<Polled> {
  const url = `http://127.0.0.1:${server.port}${ENGINE}polling${query}`;
  const response = await fetch(url, init);
  const text = await response.text();
  const json = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
  return { status: response.status, headers: response.headers, text, json };
}

/** Opens a session that polls: its id. */
async function session(server: Server, init: RequestInit = {}): Promise<string> {
  const { status, text } = await poll(server, '', init);
  expect(status).toBe(200);
  return (JSON.parse(text.slice(1)) as { sid: string }).sid;
}

/** Opens a WebSocket by hand. */
async function upgrade(server: Server, query = '', headers = {}): Promise<WebSocket> {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${ENGINE}websocket${query}`, {
    headers,
  });
  sockets.push(socket);
  socket.on('error', () => undefined);
  await once(socket, 'open');
  return socket;
}

describe.each(Object.entries(SERVERS))('the guard of %s', (name, command) => {
  const isBunEngine = name === '@socket.io/bun-engine';

  it.each([
    ['polling', POLLING],
    ['WebSocket', WEBSOCKET],
    ['the upgrade from polling to WebSocket', BOTH],
  ])('takes one seat for %s, counts both ways, and gives it back', async (_what, transports) => {
    const server = await start(command, { limits: {} });
    const client = await open(server, transports);
    expect(await server.total()).toBe(1);
    const before = (await figures(client))[0];
    expect(await ask(client, 'echo', 'héllo')).toBe('héllo');
    const [messages, received, sent, ip] = (await figures(client))[0];
    expect([messages - before[0], ip]).toEqual([2, '127.0.0.1']);
    // 2<id>["echo","héllo"] and 2<id>["figures"]
    const digits = received - before[1] - Buffer.byteLength('2["echo","héllo"]2["figures"]');
    expect([2, 3, 4]).toContain(digits);
    expect(sent).toBeGreaterThan(before[2] + Buffer.byteLength('3["héllo"]'));
    expect(await server.total()).toBe(1);
    client.disconnect();
    await server.becomes(0);
  });
});
