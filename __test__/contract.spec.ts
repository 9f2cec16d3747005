import { generateKeyPairSync } from 'node:crypto';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type Answer,
  SERVERS,
  ask,
  cleanUp,
  closeCode,
  refusedByCode,
  type Server,
  start,
} from './servers/start.js';
import type { GuardStats } from '../dist/ws.js';
import { inFull } from './fixtures/long.js';
import { SECRET, token } from './fixtures/sign.js';

// The contract of all adapters, checked on real servers in processes of their own.
afterEach(cleanUp);

const json = (answer: Answer): Record<string, unknown> =>
  JSON.parse(answer.body) as Record<string, unknown>;

describe.each(Object.entries(SERVERS))('the adapter for %s', (_name, command) => {
  it('admits, and counts messages and bytes both ways', async () => {
    const server = await start(command, { limits: {} });
    const client = await server.open();
    expect(await ask(client, 'héllo')).toBe('héllo');
    expect(await ask(client, new Uint8Array(100))).toHaveLength(100);
    expect(await ask(client, '{"a": 1}')).toMatch(/^\{"a": ?1\}$/);
    expect(await ask(client, 'text')).toBe('é');
    const [messages, received, sent, ip] = JSON.parse(await ask(client, 'figures')) as [
      number,
      number,
      number,
      string,
    ];
    expect([messages, received, ip]).toEqual([5, 6 + 100 + 8 + 4 + 7, '127.0.0.1']);
    // JSON is parsed and written anew on its way back by some servers.
    expect([6 + 100 + 7 + 2, 6 + 100 + 8 + 2]).toContain(sent);
  });

  it('checks messages as JSON before the handler runs', async () => {
    const server = await start(command, { limits: {}, json: { maxBytes: 4000 } });
    for (const [message, code] of [
      ['{"a":1,"a":2}', 1008],
      ['['.repeat(33) + ']'.repeat(33), 1008],
      ['{"a":', 1007],
      [new Uint8Array([0x22, 0xff, 0x22]), 1007],
      ['9'.repeat(5000), 1009],
    ] as const) {
      const client = await server.open();
      expect(await ask(client, '[1]')).toBe('[1]');
      client.send(message);
      expect(await closeCode(client)).toBe(code);
    }
    await server.becomes(0);
  });

  it('drops messages that are not JSON if so configured', async () => {
    const server = await start(command, { limits: {}, json: {}, onInvalidMessage: 'drop' });
    const client = await server.open();
    client.send('no JSON');
    expect(await ask(client, '[7]')).toBe('[7]');
    expect((JSON.parse(await server.get('/guard')) as GuardStats).invalidMessages).toEqual({
      ERR_JSON_SYNTAX: 1,
    });
  });

  it('refuses with 429 before the upgrade at the limit of an address, and with 503 at the total', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerIp: 2, maxTotalConnections: 3 },
      trustedProxies: ['127.0.0.1'],
    });
    await server.open();
    await server.open();
    const refused = await server.handshake();
    expect(refused.status).toBe(429);
    expect(refused.headers).toMatch(/\r\nretry-after: [1-9]\d*/);
    expect(refused.headers).toMatch(/\r\ncontent-type: application\/json/);
    expect(json(refused)).toEqual({
      code: 'ip_limit',
      message: 'Max connections per IP exceeded',
      retryAfterMs: expect.any(Number),
    });
    await server.open('/ws', { 'X-Forwarded-For': '192.0.2.1' });
    const full = await server.handshake({ 'X-Forwarded-For': '192.0.2.2' });
    expect([full.status, json(full)['code']]).toEqual([503, 'total_limit']);
  });

  it('answers each of 300 concurrent handshakes, and admits none of them at the limit', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 2 } });
    const seated = [await server.open(), await server.open()];
    const answers = await Promise.all(Array.from({ length: 300 }, () => server.handshake()));
    expect(answers.map(({ status }) => status)).toEqual(Array.from({ length: 300 }, () => 429));
    expect(answers.every((answer) => json(answer)['code'] === 'ip_limit')).toBe(true);
    for (const client of seated) expect(await ask(client, 'still here')).toBe('still here');
  });

  it('sends Retry-After when an address connects too often', async () => {
    const server = await start(command, {
      limits: { connectRatePerIp: { limit: 1, windowMs: 60_000 } },
    });
    await server.open();
    const refused = await server.handshake();
    expect([refused.status, json(refused)['code']]).toEqual([429, 'ip_rate']);
    const seconds = Number(/retry-after: (\d+)/.exec(refused.headers)?.[1]);
    expect(seconds).toBe(Math.ceil((json(refused)['retryAfterMs'] as number) / 1000));
    expect(seconds).toBeGreaterThan(50);
  });

  it('refuses by close code if so configured: 1008 for a limit of one client, 1013 for the server', async () => {
    const server = await start(command, {
      // Bun does not tell when the peer has answered: the first client counts as closing for a while.
      limits: { maxConnectionsPerIp: 1, maxClosingPerIp: 10 },
      refuseWith: 'close',
    });
    await server.open();
    expect(await refusedByCode(server)).toBe(1008);
    await server.get('/drain');
    expect(await refusedByCode(server)).toBe(1013);
    expect(await server.total()).toBe(1);
  });

  it('gives seats back on close and on terminate', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 20 } });
    const all = await Promise.all(Array.from({ length: 20 }, () => server.open()));
    await server.becomes(20);
    for (const client of all.slice(0, 10)) client.close();
    for (const client of all.slice(10)) client.terminate();
    await server.becomes(0);
    await server.open();
    expect(await server.total()).toBe(1);
  });

  it('does not keep the seat of a connection whose open handler throws', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 1 } });
    const client = await server.open('/ws?throw');
    client.close();
    await server.becomes(0);
    expect(await ask(await server.open(), 'hello')).toBe('hello');
  });

  it('believes forwarded addresses of trusted proxies only', async () => {
    const trusting = await start(command, {
      limits: {},
      trustedProxies: ['127.0.0.0/8', '10.0.0.0/8'],
    });
    const addressOf = async (server: Server, headers: Record<string, string>): Promise<unknown> =>
      (JSON.parse(await ask(await server.open('/ws', headers), 'figures')) as unknown[])[3];
    expect(await addressOf(trusting, { 'X-Forwarded-For': '6.6.6.6, 192.0.2.1, 10.0.0.1' })).toBe(
      '192.0.2.1',
    );
    expect(await addressOf(trusting, { Forwarded: 'for=6.6.6.6, for="[2001:db8::1]:80"' })).toBe(
      '2001:db8::1',
    );
    expect(await addressOf(trusting, { 'X-Forwarded-For': '192.0.2.1, garbage' })).toBe(
      '127.0.0.1',
    );
    for (const list of ['192.0.2.1,', ', 192.0.2.1 ,, 10.0.0.1, ,'])
      expect(await addressOf(trusting, { 'X-Forwarded-For': list })).toBe('192.0.2.1');
    expect(await addressOf(trusting, { Forwarded: 'for=6.6.6.6;for=192.0.2.1' })).toBe('127.0.0.1');
    const careful = await start(command, { limits: {}, trustedProxies: ['10.0.0.0/8'] });
    expect(
      await addressOf(careful, { 'X-Forwarded-For': '192.0.2.1', Forwarded: 'for=192.0.2.1' }),
    ).toBe('127.0.0.1');
  });

  // `PORTCULLIS_LONG=1` sends 10,000; `npm run soak` 20,000 of 23 kinds.
  it('keeps no seat for malformed handshakes', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 400 } });
    const wrong = [
      { 'Sec-WebSocket-Key': 'short' },
      { 'Sec-WebSocket-Version': '7' },
      { 'Sec-WebSocket-Key': '' },
      { 'Sec-WebSocket-Version': '' },
    ];
    let left = inFull(1000, 10_000);
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        const answer = await server.handshake(wrong[left % wrong.length]);
        expect([400, 405, 426]).toContain(answer.status);
      }
    };
    await Promise.all(Array.from({ length: 50 }, worker));
    await server.becomes(0);
    expect(await ask(await server.open(), 'hello')).toBe('hello');
  });

  it('admits nobody while it drains', async () => {
    const server = await start(command, { limits: {} });
    const client = await server.open();
    await server.get('/drain');
    const refused = await server.handshake();
    expect([refused.status, json(refused)['code']]).toEqual([503, 'draining']);
    expect(await ask(client, 'still here')).toBe('still here');
  });

  it('counts users, and refuses with 500 when they cannot be identified', async () => {
    const server = await start(command, { limits: { maxConnectionsPerUser: 1 }, whoAmI: true });
    const ann = await server.open('/ws', { 'X-User': 'ann' });
    expect((JSON.parse(await ask(ann, 'figures')) as unknown[])[4]).toBe('ann');
    const again = await server.handshake({ 'X-User': 'ann' });
    expect([again.status, json(again)['code']]).toEqual([429, 'user_limit']);
    const failed = await server.handshake({ 'X-User': 'throw' });
    expect(failed.status).toBe(500);
    expect(failed.body).not.toContain('secret');
    expect(await server.total()).toBe(1);
  });

  it('admits a client with a valid token as the user in `sub`, and answers others with 401', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerUser: 1 },
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const bearer = (value: string): Record<string, string> => ({ Authorization: value });
    const ann = await server.open('/ws', bearer(`bearer ${token({ sub: 'ann' })}`));
    expect((JSON.parse(await ask(ann, 'figures')) as unknown[])[4]).toBe('ann');
    const again = await server.handshake(bearer(`Bearer ${token({ sub: 'ann' })}`));
    expect([again.status, json(again)['code']]).toEqual([429, 'user_limit']);
    const refused: readonly (readonly [string | undefined, string])[] = [
      [undefined, 'ERR_TOKEN_REQUIRED'],
      ['Basic YTpi', 'ERR_TOKEN_REQUIRED'],
      ['Bearer ', 'ERR_TOKEN_REQUIRED'],
      ['Bearer nonsense', 'ERR_TOKEN_FORMAT'],
      [`Bearer ${token({ exp: 1 })}`, 'ERR_TOKEN_EXPIRED'],
      [`Bearer ${token({}, 'x'.repeat(32))}`, 'ERR_TOKEN_SIGNATURE'],
      [`Bearer ${token({ sub: undefined })}`, 'ERR_TOKEN_CLAIM_MISSING'],
      [`Bearer ${token({ sub: '' })}`, 'ERR_TOKEN_CLAIM_MISSING'],
    ];
    for (const [value, code] of refused) {
      const answer = await server.handshake(value === undefined ? {} : bearer(value));
      expect([answer.status, json(answer)['code']]).toEqual([401, code]);
      expect(answer.headers).toMatch(
        code === 'ERR_TOKEN_REQUIRED'
          ? /\r\nwww-authenticate: bearer(\r\n|$)/
          : /\r\nwww-authenticate: bearer error="invalid_token"/,
      );
      expect(answer.headers).not.toContain('retry-after');
    }
    // Subprotocol and query carry no token unless so configured.
    expect(
      (await server.handshake({ 'Sec-WebSocket-Protocol': `bearer, ${token()}` })).status,
    ).toBe(401);
    expect((await server.handshake({}, `/ws?access_token=${token()}`)).status).toBe(401);
    expect(await server.total()).toBe(1);
  });

  it('reads the token of a browser from a subprotocol or the query, and closes with 1008 if so configured', async () => {
    const auth = {
      policy: { keys: { secret: SECRET } },
      subprotocol: 'bearer',
      queryParameter: 'access_token',
    };
    const server = await start(command, { limits: {}, auth, refuseWith: 'close' });
    const client = await server.open('/ws', {}, ['bearer', token({ sub: 'ann' })]);
    expect(client.protocol).toBe('bearer');
    expect((JSON.parse(await ask(client, 'figures')) as unknown[])[4]).toBe('ann');
    const other = await server.open(`/ws?x=1&access_token=${token({ sub: 'bob' })}`);
    expect((JSON.parse(await ask(other, 'figures')) as unknown[])[4]).toBe('bob');
    expect(await refusedByCode(server)).toBe(1008);
    await server.becomes(2);
  });

  it('answers 503 while the keys cannot be fetched', async () => {
    const auth = {
      policy: { jwks: { url: 'http://127.0.0.1:9/none', timeoutMs: 500 }, algorithms: ['ES256'] },
    };
    const server = await start(command, { limits: {}, auth });
    const answer = await server.handshake({ Authorization: `Bearer ${token()}` });
    // A token of another algorithm is refused without keys.
    expect([answer.status, json(answer)['code']]).toEqual([401, 'ERR_TOKEN_ALGORITHM']);
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const waiting = await server.handshake({
      Authorization: `Bearer ${token({}, privateKey, 'ES256')}`,
    });
    expect([waiting.status, json(waiting)['code']]).toEqual([503, 'ERR_TOKEN_KEYS_UNAVAILABLE']);
    expect(waiting.headers).toMatch(/\r\nretry-after: [1-9]/);
    expect(await server.total()).toBe(0);
  });

  it('does not evict a client that sends pings or pongs', async () => {
    const server = await start(command, {
      limits: { connectionTimeoutMs: 1000, cleanupIntervalMs: 20 },
    });
    const [pinging, ponging, silent] = [
      await server.open(),
      await server.open(),
      await server.open(),
    ];
    const gone = closeCode(silent);
    const beat = setInterval(() => {
      pinging.ping();
      ponging.pong();
    }, 20);
    expect(await gone).toBe(1001);
    // Both are older than the evicted client.
    expect(await server.total()).toBe(2);
    clearInterval(beat);
  });

  it('closes idle clients with 1001 and frees their seats', async () => {
    const server = await start(command, {
      limits: { connectionTimeoutMs: 50, cleanupIntervalMs: 10 },
    });
    expect(await closeCode(await server.open())).toBe(1001);
    await server.becomes(0);
  });
});

it('an Elysia route registered before the plugin is guarded, and refuses by close code', async () => {
  const server = await start(['node_modules/.bin/bun', '__test__/servers/early.ts'], {});
  const client = await server.open();
  expect(await ask(client, 'hello')).toBe('hello');
  expect(await refusedByCode(server)).toBe(1008);
  expect(await server.total()).toBe(1);
  client.close();
  await server.becomes(0);
});

it.each(['/bare', '/data'])(
  'an Elysia handler that upgrades by hand is guarded (%s)',
  async (path) => {
    const server = await start(['node_modules/.bin/bun', '__test__/servers/early.ts'], {});
    const client = await server.open(path);
    expect(await server.total()).toBe(1);
    expect((await server.handshake({}, path)).status).toBe(429);
    client.close();
    await server.becomes(0);
  },
);

describe('two Elysia plugins in one app', () => {
  const command = ['node_modules/.bin/bun', '__test__/servers/pair.ts'] as const;

  it('both count and both refuse', async () => {
    const server = await start(command, {});
    const client = await server.open();
    expect(await ask(client, 'héllo')).toBe('héllo');
    await server.open();
    // Each plugin counts both seats and all bytes.
    expect(JSON.parse(await server.get('/stats'))).toEqual({
      totalConnections: 4,
      sent: [
        [6, 0],
        [6, 0],
      ],
    });
    expect((await server.handshake()).status).toBe(429);
    await server.open('/ws', { 'X-Forwarded-For': '192.0.2.1' });
    expect((await server.handshake({ 'X-Forwarded-For': '192.0.2.2' })).status).toBe(503);
    await server.becomes(6);
    client.close();
    await server.becomes(4);
  });

  it('keep no seat for an upgrade that the route refuses', async () => {
    const server = await start(command, {});
    for (let i = 0; i < 5; i++) {
      expect((await server.handshake({}, '/closed')).status).toBe(401);
      await server.becomes(0);
    }
  });
});
