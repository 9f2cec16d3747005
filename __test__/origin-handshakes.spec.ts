import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { SECRET, token } from './fixtures/sign.js';
import { SERVERS, type Server, cleanUp, refusedByCode, start } from './servers/start.js';

// Origins of handshakes, byte by byte, on every adapter and host. `origins.spec.ts` has the rules.

// The warnings are for `origins.spec.ts`.
process.env['NODE_NO_WARNINGS'] = '1';

const A = 'Origin: https://a.example';
const B = 'Origin: https://b.example';
const HOST = 'Host: a.example';
const COOKIE = 'Cookie: session=1';

/** Lines of a handshake; its status without the option, and with `https://a.example` in it. */
const ROWS: Readonly<
  Record<string, readonly [lines: readonly string[], plain: number, listed: number]>
> = {
  'no origin': [[HOST], 101, 101],
  'no origin, but a cookie': [[HOST, COOKIE], 101, 101],
  'the same host': [[HOST, A], 101, 101],
  'the same host, with a cookie': [[HOST, A, COOKIE], 101, 101],
  'the same host, with Basic credentials': [[HOST, A, 'Authorization: Basic YTpi'], 101, 101],
  'another host': [[HOST, B], 101, 403],
  'another host, with a cookie': [[HOST, B, COOKIE], 403, 403],
  'another host, with Basic credentials': [[HOST, B, 'Authorization: bAsIc YTpi'], 403, 403],
  'another host, with a bearer token': [[HOST, B, 'Authorization: Bearer x'], 101, 403],
  'names of headers in other cases': [
    ['hOST: a.example', 'oRIGIN: https://b.example', 'cOOKIE: a=b'],
    403,
    403,
  ],
  'the origin null': [[HOST, 'Origin: null', COOKIE], 403, 403],
  'an empty origin': [[HOST, 'Origin:', COOKIE], 101, 101],
  'upper case': [['Host: A.EXAMPLE', 'Origin: HTTPS://A.Example', COOKIE], 101, 101],
  'spaces around the origin': [[HOST, 'Origin: \t https://a.example \t', COOKIE], 101, 101],
  'a default port in the origin': [[HOST, `${A}:443`, COOKIE], 101, 101],
  'a default port in Host': [[`${HOST}:443`, A, COOKIE], 101, 101],
  'another port': [[HOST, `${A}:8443`, COOKIE], 403, 403],
  'a dot behind the origin': [[HOST, `${A}.`, COOKIE], 403, 403],
  'a dot behind both': [[`${HOST}.`, `${A}.`, COOKIE], 101, 403],
  'a user in the origin': [[HOST, 'Origin: https://a.example@b.example', COOKIE], 403, 403],
  'a path behind the origin': [[HOST, `${A}/`, COOKIE], 403, 403],
  'an IPv6 host': [['Host: [::1]:3000', 'Origin: http://[::1]:3000', COOKIE], 101, 403],
  'a list of origins': [[HOST, `${A}, https://a.example`, COOKIE], 403, 403],
  'two lines, the good one first': [[HOST, A, B, COOKIE], 403, 403],
  'two lines, the good one last': [[HOST, B, A, COOKIE], 403, 403],
  'two equal lines': [[HOST, A, A, COOKIE], 403, 403],
  'X-Forwarded-Host of a stranger': [
    ['Host: b.example', 'X-Forwarded-Host: a.example', A, COOKIE],
    403,
    101,
  ],
};

const statusOf = async (server: Server, lines: readonly string[]): Promise<number> => {
  const text = [
    'GET /ws HTTP/1.1',
    ...lines,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ];
  const client = server.raw(`${text.join('\r\n')}\r\n\r\n`);
  await expect.poll(() => client.seen(), { interval: 5 }).toMatch(/^HTTP\/1\.1 \d{3} [^]*\r\n\r\n/);
  client.socket.destroy();
  return Number(client.seen().split(' ')[1]);
};

describe.each(Object.entries(SERVERS))('origins at the adapter for %s', (_name, command) => {
  describe('of a handshake', () => {
    let plain: Server;
    let listed: Server;
    beforeAll(async () => {
      [plain, listed] = await Promise.all([
        start(command, { limits: {} }),
        start(command, { limits: {}, allowedOrigins: ['https://a.example'] }),
      ]);
    });
    afterAll(cleanUp);

    it.each(Object.entries(ROWS))('%s', async (_row, [lines, without, within]) => {
      expect([await statusOf(plain, lines), await statusOf(listed, lines)]).toEqual([
        without,
        within,
      ]);
    });

    it('leave no seat and are counted', async () => {
      for (const server of [plain, listed]) await server.becomes(0);
      const refused = (at: 1 | 2): number =>
        Object.values(ROWS).filter((row) => row[at] === 403).length;
      expect((await plain.guard()).authDenials).toEqual({ origin_not_allowed: refused(1) });
      expect((await listed.guard()).authDenials).toEqual({ origin_not_allowed: refused(2) });
    });
  });

  describe('are judged', () => {
    afterEach(cleanUp);
    const tallyOf = async (server: Server): Promise<unknown> =>
      JSON.parse(await server.get('/tally'));
    const evil = { Origin: 'https://evil.example', Cookie: 'a=b' };

    it('before draining, limits and identity', async () => {
      const server = await start(command, { limits: { maxConnectionsPerIp: 0 }, whoAmI: 'nobody' });
      await server.get('/drain');
      const answer = await server.handshake(evil);
      expect([answer.status, JSON.parse(answer.body)]).toEqual([
        403,
        { code: 'origin_not_allowed', message: 'Origin not allowed', retryAfterMs: 0 },
      ]);
      expect(await tallyOf(server)).toMatchObject({ identified: 0 });
      const other = await start(command, {
        limits: {},
        auth: { policy: { keys: { secret: SECRET } } },
      });
      expect((await other.handshake(evil)).status).toBe(403);
      expect((await other.handshake({ Cookie: 'a=b' })).status).toBe(401);
    });

    it('and refused by close code, if so configured', async () => {
      const server = await start(command, {
        limits: {},
        allowedOrigins: 'same-host',
        refuseWith: 'close',
      });
      expect(await refusedByCode(server, { Origin: 'https://evil.example' })).toBe(1008);
      await server.open('/ws', { Origin: `http://127.0.0.1:${server.port}` });
      await server.becomes(1);
    });

    it('by the X-Forwarded-Host of a trusted proxy', async () => {
      const server = await start(command, { limits: {}, trustedProxies: ['127.0.0.1'] });
      const lines = [A, COOKIE, 'Host: 127.0.0.1:3000'];
      expect(await statusOf(server, [...lines, 'X-Forwarded-Host: a.example'])).toBe(101);
      expect(await statusOf(server, [...lines, 'X-Forwarded-Host: b.example'])).toBe(403);
      expect(await statusOf(server, lines)).toBe(403);
    });

    it('by the X-Forwarded-Host of a trusted proxy, of a request with its token in a cookie, too', async () => {
      const server = await start(command, {
        limits: {},
        trustedProxies: ['127.0.0.1'],
        auth: { policy: { keys: { secret: SECRET } }, cookie: 'session', http: ['/length'] },
      });
      const post = async (host: string): Promise<number> => {
        const lines = [
          'POST /length HTTP/1.1',
          'Host: internal:3000',
          'Connection: close',
          'Content-Length: 2',
          A,
          `Cookie: session=${token({ sub: 'ada' })}`,
          ...(host === '' ? [] : [`X-Forwarded-Host: ${host}`]),
        ];
        return Number((await server.raw(`${lines.join('\r\n')}\r\n\r\nhi`).closed).split(' ')[1]);
      };
      expect(await post('a.example')).toBe(200);
      expect(await post('b.example')).toBe(403);
      expect(await post('')).toBe(403);
    });
  });
});
