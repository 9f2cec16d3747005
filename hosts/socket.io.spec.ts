import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { io, type Socket } from 'socket.io-client';
import WebSocket from 'ws';
import { afterEach, describe, expect, it } from 'vitest';
import { cleanUp, type ServerProcess, startAlone as begin } from '../__test__/servers/start.js';
import { until } from '../__test__/fixtures/until.js';
import { frame, rawClient } from '../__test__/fixtures/raw-client.js';
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
): Promise<ServerProcess> => begin(command, options, { ENGINE_OPTIONS: JSON.stringify(engine) });

function clientOf(
  server: ServerProcess,
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
  server: ServerProcess,
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
  server: ServerProcess,
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

async function poll(server: ServerProcess, query = '', init: RequestInit = {}): Promise<Polled> {
  const url = `http://127.0.0.1:${server.port}${ENGINE}polling${query}`;
  const response = await fetch(url, init);
  const text = await response.text();
  const json = text.startsWith('{') ? (JSON.parse(text) as Record<string, unknown>) : {};
  return { status: response.status, headers: response.headers, text, json };
}

/** Opens a session that polls: its id. */
async function session(server: ServerProcess, init: RequestInit = {}): Promise<string> {
  const { status, text } = await poll(server, '', init);
  expect(status).toBe(200);
  return (JSON.parse(text.slice(1)) as { sid: string }).sid;
}

/** Opens a session that polls, and connects it to its namespace: its id. */
async function connected(server: ServerProcess, fetchesAnswer = true): Promise<string> {
  const sid = await session(server);
  await poll(server, `&sid=${sid}`, { method: 'POST', body: '40' });
  if (fetchesAnswer) expect((await poll(server, `&sid=${sid}`)).text).toMatch(/^40/);
  return sid;
}

function webSocket(server: ServerProcess, query: string, headers: object): WebSocket {
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}${ENGINE}websocket${query}`, {
    headers,
  });
  sockets.push(socket);
  socket.on('error', () => undefined);
  return socket;
}

/** Opens a WebSocket by hand. */
async function upgrade(server: ServerProcess, query = '', headers = {}): Promise<WebSocket> {
  const socket = webSocket(server, query, headers);
  await once(socket, 'open');
  return socket;
}

/** Opens a session over a WebSocket: the socket, and the id that its first packet tells. */
async function socketSession(server: ServerProcess): Promise<[WebSocket, string]> {
  const socket = webSocket(server, '', {});
  // From the start: the packet may come with the end of the handshake.
  const [first] = (await once(socket, 'message')) as [Buffer];
  return [socket, (JSON.parse(first.toString().slice(1)) as { sid: string }).sid];
}

describe('socket.io', () => {
  describe.each(Object.entries(SERVERS))('%s', (name, command) => {
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

    it('refuses with 429 at the limit of an address and 503 at the total, before the engine', async () => {
      const server = await start(command, {
        limits: { maxConnectionsPerIp: 2, maxTotalConnections: 3 },
        trustedProxies: ['127.0.0.1'],
      });
      await open(server, BOTH);
      await open(server, WEBSOCKET);
      const answer = await poll(server);
      expect(answer.status).toBe(429);
      expect(answer.headers.get('retry-after')).toMatch(/^[1-9]\d*$/);
      expect(answer.headers.get('content-type')).toBe('application/json');
      expect(answer.json).toEqual({
        code: 'ip_limit',
        message: 'Max connections per IP exceeded',
        retryAfterMs: expect.any(Number),
      });
      const raw = await server.handshake({}, `${ENGINE}websocket`);
      expect([raw.status, (JSON.parse(raw.body) as { code: string }).code]).toEqual([
        429,
        'ip_limit',
      ]);
      expect(raw.headers).toMatch(/\r\nretry-after: [1-9]/);
      expect(await refused(server, POLLING)).toBe(429);
      if (!command[0].includes('bun')) expect(await refused(server, WEBSOCKET)).toBe(429);
      await open(server, POLLING, { 'X-Forwarded-For': '192.0.2.1' });
      expect(await refused(server, POLLING, { 'X-Forwarded-For': '192.0.2.2' })).toBe(503);
      expect(await server.get('/sessions')).toBe('3');
    });

    it('admits none of 300 concurrent handshakes at the limit, and 2 of 300 below it', async () => {
      const server = await start(command, { limits: { maxConnectionsPerIp: 2 } });
      const all = await Promise.all(
        Array.from({ length: 300 }, (_, at) =>
          at % 2 === 0
            ? poll(server)
            : server.handshake({}, `${ENGINE}websocket`).then(({ status }) => ({ status })),
        ),
      );
      const statuses = all.map(({ status }) => status).filter((status) => status !== 429);
      // A handshake over a WebSocket gives its seat back once its test has read the 101.
      expect(statuses.length).toBeGreaterThanOrEqual(2);
      expect(statuses.every((status) => status === 200 || status === 101)).toBe(true);
      expect(await server.total()).toBeLessThanOrEqual(2);
      await until(async () => String(await server.total()) === (await server.get('/sessions')));
      const left = await server.total();
      for (let seats = left; seats < 2; seats++) await session(server);
      const answers = await Promise.all(Array.from({ length: 300 }, () => poll(server)));
      expect(
        new Set(answers.map(({ status, json }) => `${status} ${String(json['code'])}`)),
      ).toEqual(new Set(['429 ip_limit']));
      expect([await server.total(), await server.get('/sessions')]).toEqual([2, '2']);
    });

    it('takes no seat for what opens no session', async () => {
      const server = await start(command, { limits: { maxConnectionsPerIp: 1 } });
      for (const [query, init] of [
        ['', { method: 'POST', body: '40' }],
        ['', { method: 'PUT', body: '40' }],
        ['&sid=unknown', {}],
        ['&sid=unknown', { method: 'POST', body: '40' }],
        ['&sid=__proto__', {}],
        ['&sid=constructor', {}],
        ['&EIO=3', {}],
        ['&transport=carrier-pigeon', {}],
        ['&transport=websocket', {}],
        ['&sid=', { method: 'POST', body: '40' }],
      ] as const) {
        // Of two values of one name the engine of Node reads the last one, that of Bun the first.
        const target = query.includes('EIO=') || query.includes('transport=') ? query.slice(1) : '';
        const path = target === '' ? `${ENGINE}polling${query}` : `/socket.io/?${target}`;
        const response = await fetch(`http://127.0.0.1:${server.port}${path}`, init);
        expect([path, response.status]).toEqual([path, 400]);
        await server.becomes(0);
      }
      for (const query of ['websocket&sid=unknown', 'polling', 'carrier-pigeon', 'webtransport']) {
        const { status } = await server.handshake({}, ENGINE + query);
        expect([query, status]).toEqual([query, 400]);
        await server.becomes(0);
      }
      for (const headers of [
        { Upgrade: 'h2c' },
        { 'Sec-WebSocket-Key': 'short' },
        { 'Sec-WebSocket-Version': '7' },
      ]) {
        const { status } = await server.handshake(headers, `${ENGINE}websocket`);
        expect([400, 426, 500]).toContain(status);
        await server.becomes(0);
      }
      // An empty id is none: this one takes the seat.
      expect((await poll(server, '&sid=')).status).toBe(200);
      expect(await server.total()).toBe(1);
      expect((await poll(server, '&sid=')).status).toBe(429);
      expect((await poll(server, '&sid=&sid=')).status).toBe(429);
      expect(await server.get('/sessions')).toBe('1');
    });

    it('neither admits nor counts the further requests of a session, from whichever address', async () => {
      const server = await start(command, {
        limits: { maxConnectionsPerIp: 1, connectRatePerIp: { limit: 2, windowMs: 60_000 } },
        trustedProxies: ['127.0.0.1'],
      });
      const sid = await session(server);
      for (let i = 0; i < 10; i++) {
        const polling = poll(server, `&sid=${sid}`, {
          headers: { 'X-Forwarded-For': `192.0.2.${i}` },
        });
        const posted = await poll(server, `&sid=${sid}`, {
          method: 'POST',
          body: i === 0 ? '40' : '421["echo",1]',
        });
        expect([posted.status, (await polling).status]).toEqual([200, 200]);
        expect(await server.total()).toBe(1);
      }
      expect((await poll(server, '', { headers: { 'X-Forwarded-For': '192.0.2.9' } })).status).toBe(
        200,
      );
      expect(await server.total()).toBe(2);
    });

    it('judges the page of each request: of a session, of its polls and of its upgrade', async () => {
      const server = await start(command, { limits: {}, allowedOrigins: ['https://app.example'] });
      const good = { headers: { Origin: 'https://app.example' } };
      const bad = { headers: { Origin: 'https://evil.example' } };
      expect((await poll(server, '', bad)).status).toBe(403);
      expect(await server.total()).toBe(0);
      const sid = await session(server, good);
      expect((await poll(server, `&sid=${sid}`, bad)).json['code']).toBe('origin_not_allowed');
      const post = { method: 'POST', body: '40', ...bad };
      expect((await poll(server, `&sid=${sid}`, post)).status).toBe(403);
      const query = `${ENGINE}websocket&sid=${sid}`;
      expect((await server.handshake(bad.headers, query)).status).toBe(403);
      expect((await server.handshake(bad.headers, `${ENGINE}websocket`)).status).toBe(403);
      expect((await server.guard()).authDenials).toEqual({ origin_not_allowed: 5 });
      expect((await server.handshake(good.headers, query)).status).toBe(101);
      expect(await server.total()).toBe(1);
    });

    it('upgrades a session once at a time, and only one that polls', async () => {
      const server = await start(
        command,
        { limits: { maxConnectionsPerIp: 2 } },
        { upgradeTimeout: 3000 },
      );
      const [socket, sid] = await socketSession(server);
      const taken = await server.handshake({}, `${ENGINE}websocket&sid=${sid}`);
      expect([taken.status, JSON.parse(taken.body)]).toEqual([
        400,
        { code: 'no_session_upgrade', message: 'The session cannot be upgraded' },
      ]);
      expect(socket.readyState).toBe(WebSocket.OPEN);
      const polling = await session(server);
      // The probe is never finished: the engine ends it, and the session goes on.
      const probe = await upgrade(server, `&sid=${polling}`);
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => server.handshake({}, `${ENGINE}websocket&sid=${polling}`)),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([400]));
      probe.send('2probe');
      expect(String((await once(probe, 'message'))[0])).toBe('3probe');
      await once(probe, 'close');
      const posted = await poll(server, `&sid=${polling}`, { method: 'POST', body: '40' });
      expect([posted.status, await server.total(), await server.get('/sessions')]).toEqual([
        200,
        2,
        '2',
      ]);
      // Bun's engine takes a session whose upgrade has failed for one that is being upgraded.
      if (isBunEngine) return;
      const again = await upgrade(server, `&sid=${polling}`);
      again.send('2probe');
      await once(again, 'message');
      again.send('5');
      await until(async () => (await poll(server, `&sid=${polling}`)).status === 400);
      expect(await server.total()).toBe(2);
      again.terminate();
      await server.becomes(1);
    });

    it('does not let a client probe without end', async () => {
      const server = await start(command, {
        limits: { controlRate: { limit: 20, windowMs: 1000 } },
      });
      const sid = await session(server);
      const probe = await upgrade(server, `&sid=${sid}`);
      const closed = once(probe, 'close');
      for (let i = 0; i < 200; i++) probe.send('2probe');
      await closed;
      await server.becomes(0);
    });

    it('bans an address whose tokens fail, over polling and WebSocket together', async () => {
      const server = await start(command, {
        limits: {},
        banAfter: 10,
        trustedProxies: ['127.0.0.1'],
        auth: { policy: { keys: { secret: SECRET } } },
      });
      const good = token({ exp: 4_000_000_000 });
      const headers = (client: string, bearer: string): Record<string, string> => ({
        'X-Forwarded-For': client,
        Authorization: `Bearer ${bearer}`,
      });
      const shake = async (client: string, bearer = good): Promise<number> =>
        (await server.handshake(headers(client, bearer), `${ENGINE}websocket`)).status;
      const poll = (client: string, bearer = good): Promise<Response> =>
        fetch(`http://127.0.0.1:${server.port}${ENGINE}polling`, {
          headers: headers(client, bearer),
        });
      for (let at = 0; at < 5; at++) {
        expect(await shake('192.0.2.1', `${good}x`)).toBe(401);
        expect((await poll('192.0.2.1', `${good}x`)).status).toBe(401);
      }
      expect(await shake('192.0.2.1')).toBe(429);
      const refused = await poll('192.0.2.1');
      expect([refused.status, await refused.json()]).toMatchObject([429, { code: 'banned' }]);
      expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(30);
      expect([await shake('192.0.2.2'), (await poll('192.0.2.2')).status]).toEqual([101, 200]);
      for (const bearer of [...(Array(11).fill(`${good}x`) as string[]), good])
        expect((await poll('', bearer)).status).toBe(bearer === good ? 200 : 401);
    });

    it('gives seats back when a poll, a handshake or a WebSocket breaks off', async () => {
      const server = await start(command, { limits: { maxConnectionsPerIp: 40 } });
      const sids = await Promise.all(Array.from({ length: 20 }, () => session(server)));
      expect(await server.total()).toBe(20);
      // The engine ends a session whose poll is aborted, and one that polls twice at once.
      const abort = new AbortController();
      const polls = sids
        .slice(0, 10)
        .map((sid) => poll(server, `&sid=${sid}`, { signal: abort.signal }).catch(() => undefined));
      const twice = sids.slice(10).flatMap((sid) => {
        const one = (): Promise<unknown> => poll(server, `&sid=${sid}`).catch(() => undefined);
        return [one(), one()];
      });
      await until(async () => (await server.total()) === 10);
      abort.abort();
      await Promise.all([...polls, ...twice]);
      await server.becomes(0);
      for (let i = 0; i < 20; i++) (await upgrade(server)).terminate();
      await server.becomes(0);
      expect(await server.get('/sessions')).toBe('0');
    });

    it('gives seats back when the client of a handshake leaves while it is identified', async () => {
      const server = await start(command, {
        limits: {},
        whoAmI: true,
        identifyTimeoutMs: 600_000,
      });
      const head = (path: string, lines: string): string =>
        `GET ${path} HTTP/1.1\r\nHost: x\r\nX-User: waits-ann\r\n${lines}\r\n`;
      const opening = [
        head(`${ENGINE}polling`, ''),
        head(
          `${ENGINE}websocket`,
          'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n',
        ),
      ].flatMap((text) => Array.from({ length: 10 }, () => server.raw(text)));
      await server.becomes(20);
      // A socket that nobody reads tells of no end while it holds bytes: a masked ping.
      for (const { socket } of opening.slice(10)) socket.write('\u0089\u0080\0\0\0\0', 'latin1');
      await server.total();
      for (const { socket } of opening.slice(0, 10)) socket.destroy();
      for (const { socket } of opening.slice(10)) socket.end();
      await server.becomes(0);
      if (!isBunEngine) await server.get('/release');
      expect(await server.get('/sessions')).toBe('0');
      expect(await server.total()).toBe(0);
    });

    it('gives seats back when the engine ends a session: ping timeout, disconnect, close of the server', async () => {
      const server = await start(command, { limits: {} }, { pingInterval: 300, pingTimeout: 200 });
      await session(server);
      await upgrade(server);
      expect(await server.total()).toBe(2);
      await server.becomes(0);
      for (const transports of [POLLING, WEBSOCKET]) {
        const client = await open(server, transports);
        client.emit('end');
        await server.becomes(0);
      }
      await open(server, POLLING);
      await open(server, BOTH);
      // This one has its first packet to fetch.
      await connected(server, false);
      expect(await server.total()).toBe(3);
      await Promise.all([server.tells('left 0'), server.get('/close')]);
    });

    it.each(['fetches its last packets', 'is gone'])(
      'gives the seat back at once when the application ends the session of a client that %s',
      async (what) => {
        const server = await start(command, {
          limits: { maxConnectionsPerIp: 1 },
          closeTimeoutMs: what === 'is gone' ? 300 : 60_000,
        });
        const sid = await connected(server);
        await poll(server, `&sid=${sid}`, { method: 'POST', body: '42["end"]' });
        expect(await server.total()).toBe(0);
        const closing = async (): Promise<unknown> =>
          (JSON.parse(await server.get('/stats')) as { closing: unknown }).closing;
        expect([await closing(), await server.get('/sessions')]).toEqual([1, '1']);
        if (what !== 'is gone') expect((await poll(server, `&sid=${sid}`)).text).toMatch(/^41/);
        if (what !== 'is gone' && !isBunEngine)
          expect((await poll(server, `&sid=${sid}`)).text).toMatch(/1$/);
        await until(async () => (await closing()) === 0);
        expect(await server.get('/sessions')).toBe('0');
      },
    );

    it('keeps no more ended sessions than maxClosingPerIp', async () => {
      const server = await start(command, {
        limits: { maxConnectionsPerIp: 1, maxClosingPerIp: 2 },
        closeTimeoutMs: 60_000,
      });
      for (const kept of ['1', '2', '2', '2']) {
        const sid = await connected(server);
        await poll(server, `&sid=${sid}`, { method: 'POST', body: '42["end"]' });
        expect([await server.total(), await server.get('/sessions')]).toEqual([0, kept]);
      }
    });

    it('gives the seat back of a client that reads nothing when the application ends its session', async () => {
      const server = await start(command, {
        limits: {},
        closeTimeoutMs: 300,
        websockets: { maxBufferedBytes: 2 ** 30 },
      });
      const client = await rawClient(server.port, `${ENGINE}websocket`);
      client.socket.pause();
      // Its second flood waits in the engine, behind the first one.
      for (const packet of ['40', '42["flood"]', '42["flood"]', '42["end"]']) {
        client.socket.write(frame(1, packet));
        await server.total();
      }
      await server.tells('disconnect server namespace disconnect');
      expect(await server.total()).toBe(0);
      await until(async () => (await server.get('/sessions')) === '0');
      client.socket.destroy();
    });

    it('keeps a client that only answers pings, and evicts one that does not', async () => {
      const server = await start(
        command,
        { limits: { connectionTimeoutMs: 800, cleanupIntervalMs: 20 } },
        { pingInterval: 100, pingTimeout: 20_000 },
      );
      const kept = [await open(server, POLLING), await open(server, BOTH)];
      const silent = await upgrade(server);
      await session(server);
      const [code] = (await once(silent, 'close')) as [number];
      expect(code).toBe(1001);
      await server.becomes(2);
      expect(await server.get('/sessions')).toBe('2');
      for (const client of kept) expect(await ask(client, 'echo', 1)).toBe(1);
    });

    it.each([
      ['polling', POLLING],
      ['WebSocket', WEBSOCKET],
    ])(
      'limits messages and their rate over %s, and ends the session',
      async (_what, transports) => {
        const server = await start(command, {
          limits: { messageRate: { limit: 30, windowMs: 60_000 } },
          websockets: { maxMessageSize: 2000 },
          closeTimeoutMs: 200,
        });
        const large = await open(server, transports);
        expect(await ask(large, 'echo', 'x'.repeat(1900))).toHaveLength(1900);
        large.emit('echo', 'x'.repeat(2100));
        await server.becomes(0);
        const larger = await open(server, transports);
        larger.emit('echo', 'x'.repeat(100_000));
        await server.becomes(0);
        expect((await server.guard()).websockets.messagesTooLarge).toBeGreaterThanOrEqual(
          isBunEngine && transports === POLLING ? 1 : 2,
        );
        const flooding = await open(server, transports);
        const closed = once(flooding as unknown as NodeJS.EventEmitter, 'disconnect');
        for (let i = 0; i < 200; i++) flooding.emit('echo', i, () => undefined);
        await closed;
        await server.becomes(0);
        await until(async () => (await server.get('/sessions')) === '0');
      },
    );

    it('judges the JSON of packets', async () => {
      const server = await start(command, { limits: {}, json: { maxDepth: 4 } });
      const bad = [
        '42["a",{"b":1,"b":2}]',
        '42/chat,17["a",[[[[[1]]]]]]',
        '42[',
        '40{"a":1,"a":2}',
        '451-["a",{"_placeholder":true,"num":0,"num":0}]',
      ];
      for (const packet of bad) {
        const socket = await upgrade(server);
        socket.send('40');
        const closed = once(socket, 'close');
        socket.send(packet);
        expect([1007, 1008]).toContain(((await closed) as [number])[0]);
        await server.becomes(0);
        const sid = await session(server);
        await poll(server, `&sid=${sid}`, { method: 'POST', body: packet });
        await server.becomes(0);
      }
      const client = await open(server, BOTH);
      expect(await ask(client, 'echo', { a: [1, 'x'] })).toEqual({ a: [1, 'x'] });
      const bytes = (await ask(client, 'echo', new Uint8Array([1, 2, 3]))) as Uint8Array;
      expect([...bytes]).toEqual([1, 2, 3]);
    });

    it.each(['json', 'rate'] as const)(
      'drops a packet with all of its attachments, or none of it: %s',
      async (by) => {
        const server = await start(
          command,
          by === 'json'
            ? { limits: {}, json: { maxDepth: 4 }, onInvalidMessage: 'drop' }
            : { limits: { messageRate: { limit: 7, windowMs: 600_000, action: 'drop' } } },
        );
        const client = await open(server, WEBSOCKET);
        const replies: unknown[] = [];
        const parts = [new Uint8Array([1]), new Uint8Array([2, 3])];
        // Two messages were spent on the connection: the rate is over within the second packet.
        for (const data of ['good', [[[[1]]]], 'last'])
          client.emit('echo', { data, parts }, (given: { data: unknown }) =>
            replies.push(given.data),
          );
        const isOver = async (): Promise<boolean> => {
          const stats = JSON.parse(await server.get('/stats')) as { messagesOverRate: number };
          return stats.messagesOverRate === 4;
        };
        await until(by === 'json' ? () => replies.length === 2 : isOver);
        expect(replies).toEqual(by === 'json' ? ['good', 'last'] : ['good']);
        if (by === 'json') expect(await ask(client, 'echo', parts)).toHaveLength(2);
        expect([await server.total(), client.connected]).toEqual([1, true]);
      },
    );

    it('limits the pings and pongs of its WebSockets, those of a probe too', async () => {
      const server = await start(command, {
        limits: { controlRate: { limit: 20, windowMs: 1000 } },
        closeTimeoutMs: 200,
      });
      const flood = async (socket: WebSocket, kind: 'ping' | 'pong'): Promise<void> => {
        const closed = once(socket, 'close');
        for (let i = 0; i < 200; i++) socket[kind]('x');
        await closed;
        await server.becomes(0);
      };
      for (const kind of ['ping', 'pong'] as const) {
        await flood((await socketSession(server))[0], kind);
        const sid = await session(server);
        await flood(await upgrade(server, `&sid=${sid}`), kind);
        const upgraded = await session(server);
        const socket = await upgrade(server, `&sid=${upgraded}`);
        socket.send('2probe');
        await once(socket, 'message');
        socket.send('5');
        await flood(socket, kind);
      }
    });

    it('closes a client that pings and does not read', async () => {
      // Without a guard, too, the server of Node 20 resets the connection of such a client.
      if (name === 'Socket.IO on Node') return;
      const server = await start(command, {
        limits: { controlRate: { limit: 100_000, windowMs: 1 } },
        websockets: { maxBufferedBytes: 65_536, maxBufferedMs: 200 },
      });
      const client = await rawClient(server.port, `${ENGINE}websocket`);
      client.socket.pause();
      const pings = Buffer.concat(Array.from({ length: 100 }, () => frame(9, 'x'.repeat(125))));
      await until(async () => {
        for (let at = 0; at < 20; at++)
          await new Promise((sent) => void client.socket.write(pings, sent));
        return (await server.guard()).websockets.slowConsumers === 1;
      });
      client.socket.destroy();
      await server.becomes(0);
    });

    it('ends a flood with the close code of its limit, where the host can stop reading', async () => {
      const server = await start(command, {
        limits: { messageRate: { limit: 3, windowMs: 60_000 } },
        closeTimeoutMs: 200,
      });
      const [socket] = await socketSession(server);
      const closed = once(socket, 'close') as Promise<[number]>;
      const connected = once(socket, 'message');
      socket.send('40');
      await connected;
      for (let i = 0; i < 20; i++) socket.send('42["x"]');
      expect((await closed)[0]).toBe(isBunEngine ? 1006 : 1008);
      await server.becomes(0);
    });

    it('limits packets that are no messages', async () => {
      const server = await start(command, {
        limits: { controlRate: { limit: 20, windowMs: 1000 } },
        closeTimeoutMs: 200,
      });
      if (isBunEngine) return; // Its engine ends a session with such a packet.
      for (const packet of ['6', '5', '0']) {
        const socket = await upgrade(server);
        const closed = once(socket, 'close');
        for (let i = 0; i < 200; i++) socket.send(packet);
        await closed;
        await server.becomes(0);
      }
    });

    it('refuses new sessions while it drains; admitted ones go on, and may upgrade', async () => {
      const server = await start(command, { limits: {} });
      const client = await open(server, POLLING);
      const sid = await session(server);
      await server.get('/drain');
      expect(await refused(server, POLLING)).toBe(503);
      const raw = await server.handshake({}, `${ENGINE}websocket`);
      expect([raw.status, (JSON.parse(raw.body) as { code: string }).code]).toEqual([
        503,
        'draining',
      ]);
      for (let i = 0; i < 5; i++) expect(await ask(client, 'echo', i)).toBe(i);
      const probe = await upgrade(server, `&sid=${sid}`);
      probe.send('2probe');
      expect(String((await once(probe, 'message'))[0])).toBe('3probe');
      expect(await server.total()).toBe(2);
    });

    it('admits by token, and counts users', async () => {
      const server = await start(command, {
        limits: { maxConnectionsPerUser: 1 },
        auth: { policy: { keys: { secret: SECRET } }, queryParameter: 'access_token' },
      });
      const ann = { Authorization: `Bearer ${token({ sub: 'ann' })}` };
      const client = await open(server, BOTH, ann);
      expect((await figures(client))[0][4]).toBe('ann');
      expect((await poll(server, '', { headers: ann })).json['code']).toBe('user_limit');
      const stranger = await poll(server);
      expect([stranger.status, stranger.json['code']]).toEqual([401, 'ERR_TOKEN_REQUIRED']);
      expect(stranger.headers.get('www-authenticate')).toBe('Bearer');
      expect((await server.handshake({}, `${ENGINE}websocket`)).status).toBe(401);
      expect((await poll(server, `&access_token=${token({ sub: 'bob' })}`)).status).toBe(200);
      expect(await server.total()).toBe(2);
      client.disconnect();
      await server.becomes(1);
    });

    it('asks the requests of auth.http for a token, and not those of a session again', async () => {
      const options = {
        limits: {},
        auth: {
          policy: { keys: { secret: SECRET }, replay: { maxEntries: 100 } },
          http: true,
        },
        exemptPaths: ['/stats'],
      };
      if (isBunEngine) {
        const env = { ...process.env, GUARD_OPTIONS: JSON.stringify(options) };
        const { stdout } = spawnSync(command[0], [command[1]], { env, encoding: 'utf8' });
        expect(stdout).toContain('auth.http is kept by guard.request(handler) of node:http');
        env.GUARD_OPTIONS = JSON.stringify({ limits: {}, requests: {} });
        const limited = spawnSync(command[0], [command[1]], { env, encoding: 'utf8' });
        expect(limited.stdout).toContain('requests is kept by guard.request(handler)');
        return;
      }
      const server = await start(command, options);
      const url = `http://127.0.0.1:${server.port}/sessions`;
      const refusal = await fetch(url);
      expect([refusal.status, refusal.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
      const bearer = (jti: string) => ({ authorization: `Bearer ${token({ jti })}` });
      const answers = [await fetch(url, { headers: bearer('a') })];
      answers.push(await fetch(url, { headers: bearer('a') }));
      expect(answers.map(({ status }) => status)).toEqual([200, 401]);
      // A token of one use: the polls and the upgrade of its session carry it again.
      const client = await open(server, BOTH, bearer('b'));
      expect(await ask(client, 'echo', 'in')).toBe('in');
      expect(await refused(server, POLLING)).toBe(401);
    });

    it('identifies users, and refuses with 500 if that fails', async () => {
      const server = await start(command, { limits: { maxConnectionsPerUser: 1 }, whoAmI: true });
      const client = await open(server, BOTH, { 'X-User': 'ann' });
      expect((await figures(client))[0][4]).toBe('ann');
      expect(await refused(server, POLLING, { 'X-User': 'ann' })).toBe(429);
      expect(await refused(server, POLLING, { 'X-User': 'throw' })).toBe(500);
      expect(await refused(server, POLLING, { 'X-User': 'nobody' })).toBe(401);
      expect((await server.handshake({ 'X-User': 'throw' }, `${ENGINE}websocket`)).status).toBe(
        500,
      );
      expect(await server.total()).toBe(1);
    });

    it('pings, and closes a client that does not answer or does not read', async () => {
      const server = await start(command, {
        limits: {},
        websockets: {
          pingIntervalMs: 200,
          pongTimeoutMs: 200,
          maxBufferedBytes: 65_536,
          maxBufferedMs: 200,
        },
      });
      const alive = [await open(server, POLLING), await open(server, BOTH)];
      const silent = await upgrade(server);
      expect(((await once(silent, 'close')) as [number])[0]).toBe(1001);
      for (const client of alive) expect(await ask(client, 'echo', 1)).toBe(1);
      const { websockets } = await server.guard();
      expect([websockets.open, websockets.pongTimeouts]).toEqual([2, 1]);
      expect(websockets.pingsSent).toBeGreaterThan(0);
      // This one answers every ping, and never polls for what it is sent.
      const sid = await session(server);
      await poll(server, `&sid=${sid}`, { method: 'POST', body: '40' });
      await poll(server, `&sid=${sid}`);
      await poll(server, `&sid=${sid}`, { method: 'POST', body: '42["flood"]' });
      await until(async () => (await server.guard()).websockets.slowConsumers === 1);
      await server.becomes(2);
    });

    it('ends gracefully: sessions are closed, and the server with them', async () => {
      const server = await start(command, { limits: {}, shutdown: { deadlineMs: 10_000 } });
      const clients = [
        await open(server, POLLING),
        await open(server, POLLING),
        await open(server, WEBSOCKET),
        await open(server, BOTH),
      ];
      const all = clients.map((client) =>
        once(client as unknown as NodeJS.EventEmitter, 'disconnect'),
      );
      const result = await server.end();
      await Promise.all(all);
      expect(result).toMatchObject({ graceful: true, code: 0, unhandled: [], requestsAborted: 0 });
    });

    it('refuses by closing the session if so configured, and Socket.IO never hears of it', async () => {
      const server = await start(command, {
        limits: { maxConnectionsPerIp: 1, maxClosingPerIp: 10 },
        refuseWith: 'close',
      });
      await session(server);
      const socket = new WebSocket(`ws://127.0.0.1:${server.port}${ENGINE}websocket`);
      sockets.push(socket);
      socket.on('error', () => undefined);
      expect(((await once(socket, 'close')) as [number])[0]).toBe(1008);
      const second = await session(server);
      expect((await poll(server, `&sid=${second}`)).status).toBe(400);
      expect([await server.total(), await server.get('/sessions')]).toEqual([1, '1']);
    });
  });

  describe('only the engine of Node', () => {
    const command = SERVERS['Socket.IO on Node'];

    it('opens no session for a client that left before', async () => {
      const server = await begin(command, { limits: {} }, { SLOW_ID: '1' });
      const opening = Array.from({ length: 20 }, () =>
        server.raw(`GET ${ENGINE}polling HTTP/1.1\r\nHost: x\r\n\r\n`),
      );
      await server.becomes(20);
      for (const { socket } of opening) socket.destroy();
      await server.becomes(0);
      await new Promise((resolve) => void setTimeout(resolve, 500));
      expect([await server.total(), await server.get('/sessions')]).toEqual([0, '0']);
    });

    it('ends a session that waits for a last poll, after closeTimeoutMs', async () => {
      const server = await start(command, { limits: {}, closeTimeoutMs: 300 });
      const sid = await connected(server);
      // The engine would wait for 30 seconds: it closes a transport that does not poll.
      await poll(server, `&sid=${sid}`, { method: 'POST', body: '42["cut"]' });
      expect(await server.total()).toBe(0);
      await until(async () => (await server.get('/sessions')) === '0');
    });

    it('lets one of many upgrades of a session through, though its middleware waits', async () => {
      const server = await begin(command, { limits: {} }, { SLOW_MIDDLEWARE: '1' });
      const sid = await session(server);
      const answers = await Promise.all(
        Array.from({ length: 50 }, () => server.handshake({}, `${ENGINE}websocket&sid=${sid}`)),
      );
      expect(answers.filter(({ status }) => status === 101)).toHaveLength(1);
      expect(answers.filter(({ status }) => status === 400)).toHaveLength(49);
      await server.becomes(1);
    });

    it('answers a refused page of another origin with the headers of its own cors', async () => {
      const cors = { origin: 'https://app.example', credentials: true };
      const server = await start(command, { limits: { maxConnectionsPerIp: 0 } }, { cors });
      const headers = { Origin: 'https://app.example' };
      const answer = await poll(server, '', { headers });
      expect([answer.status, answer.json['code']]).toEqual([429, 'ip_limit']);
      expect(answer.headers.get('access-control-allow-origin')).toBe('https://app.example');
      expect(answer.headers.get('access-control-allow-credentials')).toBe('true');
      const preflight = await poll(server, '', {
        method: 'OPTIONS',
        headers: { ...headers, 'Access-Control-Request-Method': 'GET' },
      });
      expect(preflight.status).toBe(204);
      expect((await server.guard()).websockets.open).toBe(0);
    });
  });

  describe('the examples of its page', () => {
    it.each([
      ['node', 'hosts/servers/socket.io-page.mjs'],
      ['node_modules/.bin/bun', 'hosts/servers/socket.io-page.mjs'],
      ['node_modules/.bin/bun', 'hosts/servers/socket.io-bun-page.ts'],
    ])('guard (%s %s)', async (...command) => {
      const server = await begin(command, { limits: { maxConnectionsPerIp: 1 } });
      expect((await poll(server)).status).toBe(200);
      expect((await poll(server)).json['code']).toBe('ip_limit');
      await server.end();
    });
  });
});
