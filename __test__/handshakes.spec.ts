import { once } from 'node:events';
import { createServer } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import { targetOf } from '../dist/http/answer.js';
import { isHandshake, lengthOf } from '../dist/http/handshake.js';
import { type GuardStats, portcullis } from '../dist/ws.js';
import { SECRET, token } from './fixtures/sign.js';
import { pause, until } from './fixtures/until.js';
import {
  SERVERS,
  type Server,
  type ServerProcess,
  cleanUp,
  start,
  startAlone,
} from './servers/start.js';
import { randomOf } from './fixtures/random.js';

// Handshakes byte by byte, on every adapter and host: a host that answers 101 has let its client be judged.

const MAX_PAYLOAD = 1000;
const LARGE = 'x'.repeat(64 * 1024);
const KEY = 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==';
const VERSION = 'Sec-WebSocket-Version: 13';

/** A request as it is written, with the lines of its header. */
const request = (first: string, lines: readonly string[], body = ''): string =>
  `${[first, 'Host: 127.0.0.1', ...lines].join('\r\n')}\r\n\r\n${body}`;
const GET = 'GET /ws HTTP/1.1';
const upgrading = (...upgrades: readonly string[]): readonly string[] => [
  'Connection: Upgrade',
  ...upgrades.map((value) => `Upgrade:${value}`),
  VERSION,
  KEY,
];
const WEBSOCKET = upgrading(' websocket');
const handshake = (first = GET, body = '', ...more: readonly string[]): string =>
  request(first, [...WEBSOCKET, ...more], body);
const post = (lines: readonly string[], body = 'abcde'): string =>
  request('POST /length HTTP/1.1', lines, body);
const chunked = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n0\r\n\r\n`;

/** The bytes of each row, and how many answers they ask for. */
const ROWS: Readonly<Record<string, readonly [bytes: string, answers?: number]>> = {
  'a plain handshake': [handshake()],
  'Upgrade: websocket, x': [request(GET, upgrading(' websocket, x'))],
  'Upgrade: x, websocket': [request(GET, upgrading(' x, websocket'))],
  'Upgrade: ,websocket,': [request(GET, upgrading(' ,websocket,'))],
  'two lines, websocket first': [request(GET, upgrading(' websocket', ' x'))],
  'two lines, websocket last': [request(GET, upgrading(' x', ' websocket'))],
  'websocket twice': [request(GET, upgrading(' websocket', ' websocket'))],
  'Upgrade: WebSOCKET': [request(GET, upgrading(' WebSOCKET'))],
  'tabs and spaces around websocket': [request(GET, upgrading('\t websocket \t'))],
  'tabs and spaces within a list': [request(GET, upgrading(' x\t,\t websocket'))],
  'Upgrade: websocket/13': [request(GET, upgrading(' websocket/13'))],
  'Upgrade: websocket;q=1': [request(GET, upgrading(' websocket;q=1'))],
  'Upgrade: websocket x': [request(GET, upgrading(' websocket x'))],
  'Upgrade: xwebsocket': [request(GET, upgrading(' xwebsocket'))],
  'Upgrade: h2c': [request(GET, upgrading(' h2c'))],
  'an empty Upgrade': [request(GET, upgrading(''))],
  'no Upgrade': [request(GET, upgrading())],
  'no Connection': [request(GET, WEBSOCKET.slice(1))],
  'Connection: close': [request(GET, ['Connection: close', ...WEBSOCKET.slice(1)])],
  'HTTP/1.0': [handshake('GET /ws HTTP/1.0')],
  'HTTP/1.0 without Host': [`GET /ws HTTP/1.0\r\n${WEBSOCKET.join('\r\n')}\r\n\r\n`],
  'an invalid Host': [handshake().replace('Host: 127.0.0.1', 'Host: a/b?')],
  'an absolute target': [handshake('GET http://127.0.0.1/ws HTTP/1.1')],
  'an absolute target without a path': [handshake('GET http://127.0.0.1:80?/ws HTTP/1.1')],
  'an authority as the target': [handshake('GET 127.0.0.1:80 HTTP/1.1')],
  'the target *': [handshake('GET * HTTP/1.1')],
  'a target without its slash': [handshake('GET ws HTTP/1.1')],
  HEAD: [handshake('HEAD /ws HTTP/1.1')],
  CONNECT: [handshake('CONNECT 127.0.0.1:80 HTTP/1.1')],
  'POST with a large body': [
    handshake('POST /length HTTP/1.1', LARGE, `Content-Length: ${LARGE.length}`),
  ],
  'POST with a large chunked body': [
    handshake('POST /length HTTP/1.1', chunked(LARGE), 'Transfer-Encoding: chunked'),
  ],
  'GET with a body': [handshake(GET, 'abcde', 'Content-Length: 5')],
  'GET with a large body that the handler reads': [
    handshake('GET /length HTTP/1.1', LARGE, `Content-Length: ${LARGE.length}`),
  ],
  'GET with a large chunked body that the handler reads': [
    handshake('GET /length HTTP/1.1', chunked(LARGE), 'Transfer-Encoding: chunked'),
  ],
  'a plain GET with a large body': [
    request('GET /length HTTP/1.1', [`Content-Length: ${LARGE.length}`], LARGE),
  ],
  'a handshake behind a refused one': [request(GET, upgrading(' h2c')) + handshake(), 2],
  'two handshakes': [handshake() + handshake(), 2],
  'a handshake behind a plain request': [request('GET /tally HTTP/1.1', []) + handshake(), 2],
  'a handshake behind a slow request': [request('GET /slow?ms=50 HTTP/1.1', []) + handshake(), 2],
  'a handshake behind a request with a body': [post(['Content-Length: 5']) + handshake(), 2],
  'two equal Content-Length': [post(['Content-Length: 5', 'Content-Length: 5'])],
  'two equal large Content-Length': [
    post([`Content-Length: ${LARGE.length}`, `Content-Length: ${LARGE.length}`], LARGE),
  ],
  'two different Content-Length': [post(['Content-Length: 5', 'Content-Length: 4096'], LARGE)],
  'Content-Length: 5, 5': [post(['Content-Length: 5, 5'])],
  'a large list as Content-Length': [
    post([`Content-Length: ${LARGE.length}, ${LARGE.length}`], LARGE),
  ],
  'Content-Length: +5': [post(['Content-Length: +5'])],
  'Content-Length: 0x10': [post(['Content-Length: 0x10'], 'x'.repeat(16))],
  'Content-Length: -1': [post(['Content-Length: -1'])],
  'an empty Content-Length': [post(['Content-Length:'])],
  'a Content-Length between spaces': [post(['Content-Length: \t 5 \t '])],
  'a Content-Length beyond 64 bits': [post([`Content-Length: ${'9'.repeat(40)}`])],
  'a Content-Length that wraps to 4': [post(['Content-Length: 18446744073709551620'])],
  'a Content-Length that is too large': [post([`Content-Length: ${LARGE.length}`], LARGE)],
  'Content-Length before chunked': [
    post(['Content-Length: 5', 'Transfer-Encoding: chunked'], chunked(LARGE)),
  ],
  'Content-Length behind chunked': [
    post(['Transfer-Encoding: chunked', 'Content-Length: 5'], chunked(LARGE)),
  ],
  'Transfer-Encoding: identity': [
    post(['Transfer-Encoding: identity', `Content-Length: ${LARGE.length}`], LARGE),
  ],
  'a large chunked body': [post(['Transfer-Encoding: chunked'], chunked(LARGE))],
  'bare LF': [handshake().replaceAll('\r\n', '\n')],
  'the preface of HTTP/2': ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  'no key': [request(GET, WEBSOCKET.slice(0, -1))],
  'a short key': [handshake().replace(KEY, 'Sec-WebSocket-Key: short')],
  'a bad version': [handshake().replace(VERSION, 'Sec-WebSocket-Version: 7')],
  'no version': [handshake().replace(`${VERSION}\r\n`, '')],
};

/** How long to wait for a second answer, which most hosts do not give. */
const SECOND_MS = 150;
/** True for a close frame of a server with the code 1008: opcode, length, and the code in two bytes. */
const isClosedByPolicy = (seen: string): boolean =>
  /\u0088.(..)/s.exec(seen)?.[1] === String.fromCharCode(1008 >> 8, 1008 & 0xff);

interface Tally {
  readonly identified: number;
  readonly largestBody: number;
}
const tallyOf = async (server: Server): Promise<Tally> =>
  JSON.parse(await server.get('/tally')) as Tally;
const upgradesIn = (seen: string): number => seen.match(/HTTP\/1\.1 101 /g)?.length ?? 0;

/** Writes the bytes, and returns the answers: none if the host closes at once. No host keeps a client waiting. */
async function answersTo(
  server: Server,
  [bytes, answers = 1]: readonly [string, number?],
): Promise<{ readonly seen: () => string; end(): void }> {
  const client = server.raw(bytes);
  let isClosed = false;
  void client.closed.then(() => (isClosed = true));
  const isAnswered = (times: number): boolean =>
    isClosed || (client.seen().match(/HTTP\/1\.1 \d{3} [^]*?\r\n\r\n/g)?.length ?? 0) >= times;
  await until(
    () => isAnswered(1),
    () => `no answer to ${JSON.stringify(bytes.slice(0, 200))}`,
  );
  for (const end = Date.now() + SECOND_MS; Date.now() < end && !isAnswered(answers);)
    await pause(5);
  return { seen: client.seen, end: () => void client.socket.destroy() };
}

/** Waits until no seat and no request is left. The questions themselves are exempt. */
async function isIdle(server: Server): Promise<void> {
  let state = '';
  await until(
    async () => {
      const [total, { requests }] = [await server.total(), await server.guard()];
      state = JSON.stringify({ total, requests });
      return total === 0 && requests?.active === 0;
    },
    () => `${state} is left`,
  );
}

const HOSTS = Object.entries(SERVERS);

describe.each(HOSTS)('raw bytes at the adapter for %s', (_name, command) => {
  let granting: ServerProcess;
  let denying: ServerProcess;
  beforeAll(async () => {
    const options = {
      limits: {},
      // A seat that is left behind stays: no timeout of its lease hides it.
      leaseTimeoutMs: 3_600_000,
      requests: { maxPayloadSize: MAX_PAYLOAD },
      exemptPaths: ['/guard', '/stats', '/tally'],
    };
    [granting, denying] = await Promise.all([
      startAlone(command, { ...options, whoAmI: true }),
      startAlone(command, { ...options, whoAmI: 'nobody' }),
    ]);
  });
  afterAll(cleanUp);

  it.each(Object.entries(ROWS))('%s', async (name, row) => {
    const before = await tallyOf(granting);
    const [granted, denied] = await Promise.all([
      answersTo(granting, row),
      answersTo(denying, row),
    ]);
    const upgrades = upgradesIn(granted.seen());
    const identified = (await tallyOf(granting)).identified - before.identified;
    if (identified < upgrades)
      await until(
        () => isClosedByPolicy(granted.seen()),
        () => `${name} got in without identify: ${JSON.stringify(granted.seen())}`,
      );
    if (upgradesIn(denied.seen()) > 0)
      await until(
        () => isClosedByPolicy(denied.seen()),
        () => `${name} got in: ${JSON.stringify(denied.seen())}`,
      );
    if (name === 'a plain handshake') expect([upgrades, identified]).toEqual([1, 1]);
    granted.end();
    denied.end();
    for (const server of [granting, denying]) {
      await isIdle(server);
      expect((await tallyOf(server)).largestBody).toBeLessThanOrEqual(MAX_PAYLOAD);
      expect([server.process.exitCode, server.process.signalCode]).toEqual([null, null]);
    }
  });

  it('reads a body that fits, so that the limit above is a limit', async () => {
    const { seen } = await answersTo(granting, [
      post([`Content-Length: ${MAX_PAYLOAD}`], 'x'.repeat(MAX_PAYLOAD)),
    ]);
    expect(seen()).toMatch(/ 200 OK/);
    expect((await tallyOf(granting)).largestBody).toBe(MAX_PAYLOAD);
    await isIdle(granting);
  });

  it('ends by itself afterwards, and nothing was thrown past a handler', async () => {
    for (const server of [granting, denying])
      expect(await server.end()).toMatchObject({ code: 0, unhandled: [], graceful: true });
  });
});

describe('a handshake whose handler does not answer in time', () => {
  afterAll(cleanUp);

  it.each(['elysia', 'bun'] as const)('gives its seat back with the answer: %s', async (host) => {
    const server = await startAlone(SERVERS[host], {
      limits: {},
      leaseTimeoutMs: 3_600_000,
      requests: { timeoutMs: 100 },
      exemptPaths: ['/guard', '/stats'],
    });
    expect((await server.handshake({}, '/held')).status).toBe(503);
    await isIdle(server);
  });
});

interface Counts {
  readonly isLoaded: boolean;
  readonly opened: number;
  readonly identified: number;
  readonly addresses: readonly string[];
  readonly guard: GuardStats;
}

/** The options that judge a handshake, with a line of a client that they let in and of one that they do not. */
const SETTINGS = {
  none: [{}, [], []],
  identify: [{ whoAmI: true }, ['X-User: ann'], ['X-User: nobody']],
  auth: [
    { auth: { policy: { keys: { secret: SECRET } } } },
    [`Authorization: Bearer ${token()}`],
    ['Authorization: Bearer none'],
  ],
  allowedOrigins: [
    { allowedOrigins: ['https://a.example'] },
    ['Origin: https://a.example'],
    ['Origin: https://b.example'],
  ],
  trustedProxies: [
    { trustedProxies: ['127.0.0.1'] },
    ['X-Forwarded-For: 192.0.2.1'],
    ['X-Forwarded-For: 192.0.2.1'],
  ],
} as const;
type Setting = keyof typeof SETTINGS;
/** Outcome of a handshake: an open socket that is counted, a refusal, or a socket that is closed with 1008. */
type Outcome = 'open' | 401 | 403 | 1008;
type Outcomes = Readonly<Record<Setting, readonly [good: Outcome, bad: Outcome]>>;

const JUDGED: Outcomes = {
  none: ['open', 'open'],
  identify: ['open', 401],
  auth: ['open', 401],
  allowedOrigins: ['open', 403],
  trustedProxies: ['open', 'open'],
};
/** The request is still there when its socket opens: only `identify` comes too late. */
const LATE: Outcomes = {
  ...JUDGED,
  identify: [1008, 1008],
  auth: ['open', 1008],
  allowedOrigins: ['open', 1008],
};
/** No request is left when the socket opens. */
const BLIND: Outcomes = {
  none: ['open', 'open'],
  identify: [1008, 1008],
  auth: [1008, 1008],
  allowedOrigins: [1008, 1008],
  trustedProxies: [1008, 1008],
};
const KINDS: readonly (readonly [kind: string, outcomes: Outcomes])[] = [
  ['Elysia, the plugin first', JUDGED],
  ['Elysia, a promise', LATE],
  ['Elysia, a slow promise', LATE],
  ['Elysia, an async function', LATE],
  ['Elysia, a slow async function', LATE],
  ['Elysia, the plugin last', LATE],
  ['Elysia, by hand', JUDGED],
  ['Elysia, by hand, the plugin last', LATE],
  ['Bun, wrapped', JUDGED],
  ['Bun, not wrapped', BLIND],
  ['Bun, not wrapped beside a wrapped handler', LATE],
];
const BUN = 'node_modules/.bin/bun';

describe('a socket that opens without a judged handshake', () => {
  afterEach(cleanUp);
  const countsOf = async (server: Server): Promise<Counts> =>
    JSON.parse(await server.get('/counts')) as Counts;

  /** The outcome of one handshake, once the server has counted it. */
  async function outcomeOf(server: Server, setting: Setting, lines: readonly string[]) {
    const before = await countsOf(server);
    const client = server.raw(handshake(GET, '', ...lines));
    let outcome: Outcome | undefined;
    let opened = 0;
    await until(
      async () => {
        const seen = client.seen();
        const now = await countsOf(server);
        opened = now.opened - before.opened;
        if (seen.startsWith('HTTP/1.1 401 ')) outcome = 401;
        else if (seen.startsWith('HTTP/1.1 403 ')) outcome = 403;
        else if (isClosedByPolicy(seen)) outcome = 1008;
        else if (upgradesIn(seen) === 1 && opened === 1) {
          outcome = 'open';
          expect(now.addresses).toEqual([setting === 'trustedProxies' ? '192.0.2.1' : '127.0.0.1']);
        }
        return outcome !== undefined;
      },
      () => `${JSON.stringify(client.seen())} is no outcome, ${opened} opened`,
    );
    expect(opened).toBe(outcome === 'open' ? 1 : 0);
    client.socket.destroy();
    await until(async () => (await countsOf(server)).addresses.length === 0);
    return outcome;
  }

  describe.each(KINDS)('%s', (kind, outcomes) => {
    it.each(Object.keys(SETTINGS) as Setting[])('with %s', async (setting) => {
      const [options, good, bad] = SETTINGS[setting];
      const server = await start([BUN, '__test__/servers/unjudged.ts'], {
        limits: {},
        ...options,
        kind,
      });
      await until(async () => (await countsOf(server)).isLoaded);
      if (kind.includes('beside')) {
        const first = server.raw(handshake('GET /guarded HTTP/1.1', '', ...good));
        await until(async () => upgradesIn(first.seen()) === 1);
        first.socket.destroy();
        await until(async () => (await countsOf(server)).addresses.length === 0);
      }
      expect([
        await outcomeOf(server, setting, good),
        await outcomeOf(server, setting, bad),
      ]).toEqual(outcomes[setting]);
      const { authDenials } = (await countsOf(server)).guard;
      const unjudged = outcomes === BLIND || setting === 'identify' ? outcomes[setting] : [];
      expect(authDenials.not_judged ?? 0).toBe(unjudged.filter((one) => one === 1008).length);
    });
  });

  it.each(['Elysia, by hand, the plugin last', 'Bun, not wrapped beside a wrapped handler'])(
    'keeps no seat for an upgrade that throws: %s',
    async (kind) => {
      const server = await start([BUN, '__test__/servers/unjudged.ts'], {
        limits: { maxConnectionsPerIp: 1 },
        leaseTimeoutMs: 3_600_000,
        kind,
      });
      const first = server.raw(handshake('GET /guarded HTTP/1.1'));
      await until(() => first.seen() !== '');
      first.socket.destroy();
      await until(async () => (await countsOf(server)).addresses.length === 0);
      for (let i = 0; i < 2; i++) {
        const thrown = server.raw(handshake('GET /throws HTTP/1.1'));
        await until(() => thrown.seen().includes('thrown'));
        thrown.socket.destroy();
      }
      expect(await outcomeOf(server, 'none', [])).toBe('open');
    },
  );
});

describe.each(HOSTS)('the adapter for %s', (name, command) => {
  afterEach(cleanUp);

  it('answers 401 to a valid token whose sub no user id can hold, and lives', async () => {
    const server = await start(command, {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const statusFor = async (length: number): Promise<number> =>
      (
        await server.handshake({
          Authorization: `Bearer ${token({ sub: 'x'.repeat(length) })}`,
        })
      ).status;
    expect([await statusFor(1025), await statusFor(1024)]).toEqual([401, 101]);
    expect((await server.guard()).authDenials).toEqual({ ERR_TOKEN_CLAIM_INVALID: 1 });
    await server.becomes(0);
  });

  it('exempts a path, and no query that looks like one', async () => {
    const server = await start(command, {
      limits: {},
      requests: { maxConcurrent: 0 },
      exemptPaths: ['/tally', '/'],
    });
    const statusOf = async (first: string, host = 'Host: 127.0.0.1\r\n'): Promise<number> => {
      const { seen } = await answersTo(server, [`${first}\r\n${host}\r\n`]);
      return Number(seen().split(' ')[1]);
    };
    expect(await statusOf('GET /tally HTTP/1.1')).toBe(200);
    expect(await statusOf('GET http://127.0.0.1:80/tally?/slow HTTP/1.1')).toBe(200);
    const isElysia = name === 'elysia';
    for (const query of ['?/tally', '?x=/tally', '?/slow']) {
      // The path is `/`, which is exempt. Some routers take it out of the query: of the target, which Node does not
      // change, and behind a short host Elysia.
      const answer = await statusOf(`GET http://h:80${query} HTTP/1.1`);
      if (name.startsWith('ws')) expect(answer).toBe(503);
      else expect(answer).not.toBe(503);
      expect(await statusOf(`GET http://h:80${query} HTTP/1.1`, 'Host: h\r\n')).toBe(503);
    }
    expect(await statusOf('GET http://h:80?x=1 HTTP/1.1')).not.toBe(503);
    // Without a valid host Elysia takes the path out of the query, too.
    for (const host of ['', 'Host: a/b?\r\n', 'Host: a b\r\n']) {
      const answer = await statusOf('GET /tally?abcd/slow HTTP/1.0', host);
      if (isElysia) expect(answer).toBe(503);
      else expect(answer).not.toBe(503);
      expect(await statusOf('GET /tally?abcd HTTP/1.0', host)).not.toBe(503);
    }
    expect([400, 503]).toContain(await statusOf('GET * HTTP/1.1'));
  });

  it('takes no query for an exempt path', async () => {
    const server = await start(command, {
      limits: {},
      requests: { maxConcurrent: 0 },
      exemptPaths: ['/healthz'],
    });
    for (const target of ['http://h:80?/healthz', 'http://h:80?x=/healthz'])
      expect([400, 503]).toContain(
        Number(
          (await answersTo(server, [request(`GET ${target} HTTP/1.1`, [])])).seen().split(' ')[1],
        ),
      );
  });
});

describe('another protocol beside another listener', () => {
  it('belongs to that listener, and a reset ends no process', async () => {
    const guard = portcullis({ limits: {}, identify: () => undefined });
    const server = createServer();
    const heard: (string | undefined)[] = [];
    server.on('upgrade', ({ headers }) => void heard.push(headers.upgrade));
    guard.attach(server, new WebSocketServer({ noServer: true }));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    // `once` would handle the error itself.
    let isClosed = false;
    server.on('connection', (socket) => void socket.on('close', () => (isClosed = true)));
    const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
    client.on('error', () => undefined);
    client.write(request(GET, upgrading(' h2c')));
    await until(() => heard.length === 1);
    client.resetAndDestroy();
    await until(() => isClosed);
    expect(heard).toEqual(['h2c']);
    expect(guard.manager.snapshot().totalConnections).toBe(0);
    server.close();
    guard.manager.close();
  });
});

const ROUNDS = 5000;
const PIECES = {
  upgrade: ['websocket', 'WebSocket', 'x', 'h2c', 'websocket/13', ',', ' ', '\t', ';', 'web', ''],
  length: ['0', '5', '9', '1000', '+', '-', '.', 'e', '0x', ' ', ',', '\n', '٣', ''],
  rest: ['h', ':80', '/', '?', '#', '//', '://', '@', 'healthz', '=', '.', '\\', ''],
} as const;

describe.each([1, 2, 3, 4])('the judgement agrees with a naive model (seed %i)', (seed) => {
  const random = randomOf(seed);
  const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
  const text = (from: readonly string[], most: number): string =>
    Array.from({ length: random(most) }, () => pick(from)).join('');

  it('of a handshake', () => {
    const isToken = (part: string): boolean => {
      let [start, end] = [0, part.length];
      while (start < end && ' \t'.includes(part[start]!)) start++;
      while (end > start && ' \t'.includes(part[end - 1]!)) end--;
      const name = part.slice(start, end);
      return (
        name.length === 9 && [...name].every((char, at) => 'websocket'[at] === char.toLowerCase())
      );
    };
    let found = 0;
    for (let i = 0; i < ROUNDS; i++) {
      const upgrade = pick([
        undefined,
        null,
        ...Array.from({ length: 8 }, () => text(PIECES.upgrade, 6)),
      ]);
      const method = pick(['GET', 'GET', 'GET', 'get', 'POST', 'HEAD', undefined]);
      let expected = false;
      if (method === 'GET' && typeof upgrade === 'string')
        for (const part of upgrade.split(',')) expected ||= isToken(part);
      if (expected) found++;
      expect([method, upgrade, isHandshake(method, upgrade)]).toEqual([method, upgrade, expected]);
    }
    expect(found).toBeGreaterThan(ROUNDS / 50);
  });

  it('of a length', () => {
    let found = 0;
    for (let i = 0; i < ROUNDS; i++) {
      const value = pick([
        undefined,
        null,
        ...Array.from({ length: 8 }, () => text(PIECES.length, 4)),
      ]);
      let expected: number | undefined;
      if (
        typeof value === 'string' &&
        value !== '' &&
        [...value].every((char) => '0123456789'.includes(char))
      ) {
        expected = 0;
        for (const digit of value) expected = expected * 10 + '0123456789'.indexOf(digit);
        found++;
      }
      expect([value, lengthOf(value)]).toEqual([value, expected]);
    }
    expect(found).toBeGreaterThan(ROUNDS / 50);
    expect(lengthOf('9'.repeat(400))).toBe(Infinity);
  });

  it('of a target', () => {
    for (let i = 0; i < ROUNDS; i++) {
      const rest = text(PIECES.rest, 8);
      const scheme = pick(['http', 'https', 'ws']);
      let at = 0;
      while (at < rest.length && !'/?#'.includes(rest[at]!)) at++;
      const path = rest.slice(at);
      const expected = path[0] === '/' ? path : `/${path}`;
      expect([rest, targetOf(`${scheme}://${rest}`)]).toEqual([rest, expected]);
      // Without an authority it is a target already.
      expect(targetOf(`/${rest}`)).toBe(`/${rest}`);
    }
    expect(['*', '', 'h:80'].map(targetOf)).toEqual(['*', '', 'h:80']);
  });
});

const { elysia, bun } = SERVERS;
describe.each(Object.entries({ elysia, bun }))('a handshake on Bun behind %s', (_name, command) => {
  it('gives its seat back when its client leaves, though its handler never settles', async () => {
    const server = await start(command, { limits: {}, leaseTimeoutMs: 3_600_000 });
    const { socket } = server.rawHandshake('/held');
    await server.becomes(1);
    socket.destroy();
    await server.becomes(0);
    await server.get('/release');
  });
});
