import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import type WebSocket from 'ws';
import {
  type Server,
  type ServerProcess,
  ask,
  cleanUp,
  closeCode,
  start,
  startAlone,
} from './servers/start.js';

// The builder's server on Bun with real clients.
afterEach(cleanUp);

const BUN = 'node_modules/.bin/bun';
const run = (options: object = {}): Promise<Server> =>
  start([BUN, '__test__/servers/builder.ts'], options);
const runAlone = (options: object = {}, env: Record<string, string> = {}): Promise<ServerProcess> =>
  startAlone([BUN, '__test__/servers/builder.ts'], options, env);

interface Envelope {
  readonly type: string;
  readonly payload?: unknown;
  readonly timestamp: string;
  readonly messageId: string;
}
async function tell(client: WebSocket, message: unknown): Promise<Envelope> {
  return JSON.parse(
    await ask(
      client,
      typeof message === 'string' || message instanceof Uint8Array
        ? message
        : JSON.stringify(message),
    ),
  ) as Envelope;
}
/** Returns the output of a script on Bun. */
const script = (text: string): string => {
  const code = `import { ElysiaServerBuilder } from './dist/elysia.js';\nconst thrown = (run) => { try { run(); return 'nothing'; } catch ({ code, field }) { return [code, field].join(' '); } };\n${text}`;
  const { stdout, stderr } = spawnSync(BUN, ['-e', code], { encoding: 'utf8', timeout: 10_000 });
  return stdout.trim() + stderr.trim();
};

const url = (server: Server, path: string): string => `http://127.0.0.1:${server.port}${path}`;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

describe('messages', () => {
  it('of type ping are answered without a handler of the application', async () => {
    const client = await (await run({ silent: true })).open();
    const pong = await tell(client, { type: 'ping' });
    expect(pong).toEqual({
      type: 'pong',
      timestamp: expect.stringMatching(/^\d{4}-.*Z$/),
      messageId: expect.stringMatching(UUID),
    });
    expect(await tell(client, { type: 'ping', payload: { n: 1 }, messageId: 'm-1' })).toMatchObject(
      { type: 'pong', payload: { n: 1 }, messageId: 'm-1' },
    );
  });

  it('go to the handler of their type, whose answer carries their id', async () => {
    const client = await (await run()).open();
    expect(
      await tell(client, {
        type: 'add',
        payload: { a: 2, b: 3 },
        messageId: 'sum',
        timestamp: '2026-01-01T00:00:00Z',
      }),
    ).toMatchObject({
      type: 'sum',
      payload: 5,
      messageId: 'sum',
    });
    // The user id that a client claims is ignored.
    expect(await tell(client, { type: 'who', userId: 'root' })).toMatchObject({
      type: 'you',
      payload: [null, null, 2, '127.0.0.1'],
    });
    expect(await tell(client, { type: 'push' })).toMatchObject({ type: 'pushed', payload: 1 });
    const code = closeCode(client);
    client.send('{"type":"leave"}');
    expect(await code).toBe(4000);
  });

  it('are checked before they are parsed if JSON limits are set', async () => {
    const server = await run({ json: { maxDepth: 4 }, onInvalidMessage: 'drop' });
    const client = await server.open();
    client.send('{"type":"add","type":"who"}');
    client.send(`{"type":"add","payload":${'['.repeat(5)}${']'.repeat(5)}}`);
    expect((await tell(client, { type: 'add', payload: { a: 1, b: 1 } })).payload).toBe(2);
    const { invalidMessages, messages } = JSON.parse(await server.get('/stats')) as {
      invalidMessages: object;
      messages: object;
    };
    expect(invalidMessages).toEqual({ ERR_JSON_DUPLICATE_KEY: 1, ERR_JSON_DEPTH: 1 });
    expect(messages).toEqual({ handled: 1, problems: {}, overRate: 0 });
  });

  it('are judged at the depth that is parsed, also within a string', async () => {
    for (const json of [undefined, { maxDepth: 8 }]) {
      const limit = json?.maxDepth ?? 32;
      const deep = (depth: number): string =>
        `{"type":"push","payload":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`;
      const server = await run({
        onInvalidMessage: 'drop',
        ...(json === undefined ? {} : { json }),
      });
      const client = await server.open();
      for (const message of [deep(limit), JSON.stringify(deep(limit)), ` ${deep(limit)}`])
        expect(await tell(client, message)).toMatchObject({ type: 'pushed' });
      for (const message of [
        deep(limit + 1),
        JSON.stringify(deep(limit + 1)),
        ` ${deep(limit + 1)}`,
      ])
        client.send(message);
      client.send(JSON.stringify('{"type":"push","type":"push"}'));
      expect(await tell(client, '"no JSON"')).toMatchObject({ payload: { code: 'invalid_json' } });
      // Elysia and the router parse twice; what is within is a string, and no message.
      expect(await tell(client, JSON.stringify(JSON.stringify(deep(400))))).toMatchObject({
        payload: { code: 'invalid_envelope' },
      });
      const stats = JSON.parse(await server.get('/stats')) as { invalidMessages: object };
      expect(stats.invalidMessages).toEqual({ ERR_JSON_DEPTH: 3, ERR_JSON_DUPLICATE_KEY: 1 });
    }
  });

  it('are held to limits of JSON by default, which close the connection', async () => {
    const client = await (await run()).open();
    const code = closeCode(client);
    client.send(`{"type":"push","payload":${'['.repeat(10_000)}`);
    expect(await code).toBe(1008);
  });

  it.each([
    ['{bad', 'invalid_json', undefined],
    ['', 'invalid_json', undefined],
    ['5', 'invalid_envelope', undefined],
    ['null', 'invalid_envelope', undefined],
    ['[1]', 'invalid_envelope', undefined],
    ['{}', 'invalid_envelope', 'type'],
    ['{"type":""}', 'invalid_envelope', 'type'],
    [`{"type":"${'x'.repeat(129)}"}`, 'invalid_envelope', 'type'],
    ['{"type":"add","timestamp":5}', 'invalid_envelope', 'timestamp'],
    ['{"type":"add","timestamp":"yesterday"}', 'invalid_envelope', 'timestamp'],
    ['{"type":"add","messageId":""}', 'invalid_envelope', 'messageId'],
    ['{"type":"subtract"}', 'unknown_type', 'type'],
    ['{"type":"__proto__"}', 'unknown_type', 'type'],
    ['{"type":"add","payload":{"a":"2"}}', 'invalid_payload', 'payload'],
    ['{"type":"throw"}', 'handler_failed', undefined],
    ['{"type":"reject"}', 'handler_failed', undefined],
    [new Uint8Array(3), 'not_text', undefined],
  ])(
    '%j gets a typed error, is counted, and the socket stays open',
    async (message, code, field) => {
      const server = await run();
      const client = await server.open();
      const error = await tell(client, message);
      expect(error).toMatchObject({
        type: 'error',
        payload: { code, ...(field === undefined ? {} : { field }) },
      });
      expect(JSON.stringify(error)).not.toContain('secret');
      expect((await tell(client, { type: 'add', payload: { a: 1, b: 1 } })).payload).toBe(2);
      const stats = JSON.parse(await server.get('/stats')) as { messages: object };
      expect(stats.messages).toEqual({ handled: 1, problems: { [code]: 1 }, overRate: 0 });
    },
  );

  it('that are malformed close their socket with 1007 if so configured', async () => {
    const server = await run({ websocket: { onInvalid: 'close' } });
    const client = await server.open();
    const answer = once(client, 'message');
    const code = closeCode(client);
    client.send('{bad');
    expect(JSON.parse(String((await answer)[0]))).toMatchObject({ type: 'error' });
    expect(await code).toBe(1007);
  });
});

describe('requests', () => {
  it('pass the layers, which set headers, answer, and share a store', async () => {
    const server = await run();
    const of = async (path: string): Promise<unknown[]> => {
      const answer = await fetch(url(server, path));
      return [
        answer.status,
        await answer.text(),
        answer.headers.get('x-outer'),
        answer.headers.get('x-seen'),
      ];
    };
    expect(await of('/hello')).toEqual([200, 'hello from /hello', 'yes', '200']);
    expect(await of('/denied')).toEqual([403, 'denied', 'yes', '403']);
    expect(await of('/set')).toEqual([418, 'set', 'yes', 'upgrade']);
    expect(await of('/quiet')).toEqual([402, '', 'yes', 'upgrade']);
    expect((await of('/nowhere'))[0]).toBe(404);
    const [status, body] = await of('/broken');
    expect([status, JSON.parse(String(body))]).toEqual([
      500,
      { code: 'internal_error', message: 'Internal error' },
    ]);
    const stats = JSON.parse(await server.get('/stats')) as { middlewares: Record<string, number> };
    expect(Object.keys(stats.middlewares).toSorted()).toEqual(['gate', 'outer']);
  });

  it('that a layer neither answers nor passes on end in 500, with the mistake reported to onError only', async () => {
    const server = await runAlone();
    for (const path of ['/silent', '/other']) {
      const answer = await fetch(url(server, path));
      expect([answer.status, await answer.json()]).toEqual([
        500,
        { code: 'internal_error', message: 'Internal error' },
      ]);
    }
    await server.tells(
      'error middleware: a layer gave no response and did not go on: it has to return one, set context.response or a status, or return next()',
    );
  });

  it('that get a response which was sent before end in 500, with the mistake reported to onError', async () => {
    // Bun shows the source to clients while it takes the process for one of a developer.
    const server = await runAlone({}, { NODE_ENV: '' });
    for (const path of ['/resent', '/held']) {
      expect(await (await fetch(url(server, path))).text()).toBe('once');
      const answer = await fetch(url(server, path));
      expect([answer.status, await answer.json()]).toEqual([
        500,
        { code: 'internal_error', message: 'Internal error' },
      ]);
    }
    await server.tells(
      'error response: Response body already used. A Response body can only be sent once; create a new Response for each request.',
    );
  });

  it('get each cookie of the route and of layers as a header of its own', async () => {
    const server = await run();
    const of = async (path: string, headers: Record<string, string> = {}): Promise<string[]> =>
      (await fetch(url(server, path), { headers })).headers.getSetCookie();
    expect((await of('/cookies')).toSorted()).toEqual([
      'a=1; Path=/',
      'b=2',
      'other=y; Path=/',
      'own=x; Path=/',
    ]);
    expect(await of('/cookie')).toEqual(['a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT']);
    // A shared response must not keep the cookies of one client for the next.
    expect(await of('/shared', { 'x-b': 'ada' })).toEqual(['a=1; Path=/', 'b=ada']);
    expect(await of('/shared', { 'x-b': 'bob' })).toEqual(['a=1; Path=/', 'b=bob']);
  });

  it('get the headers of their own layers also where all get one response', async () => {
    const server = await run();
    const user = async (name: string): Promise<string | null> =>
      (await fetch(url(server, '/user'), { headers: { 'x-user': name } })).headers.get('x-user');
    expect(await Promise.all([user('ada'), user('bob')])).toEqual(['ada', 'bob']);
    expect(await user('eve')).toBe('eve');
    expect((await fetch(url(server, '/user'))).headers.get('x-user')).toBeNull();
  });

  it('with a text keep its type where a layer sets a status or a cookie', async () => {
    const server = await run();
    for (const [path, status] of [
      ['/text-status', 201],
      ['/text-cookie', 200],
    ] as const) {
      const answer = await fetch(url(server, path));
      expect([answer.status, answer.headers.get('content-type'), await answer.text()]).toEqual([
        status,
        'text/plain;charset=utf-8',
        'a text',
      ]);
    }
  });

  it('have the type of a text only where a text of the route is sent', async () => {
    const server = await run();
    const typeOf = async (path: string): Promise<[number, string | null]> => {
      const { status, headers } = await fetch(url(server, path));
      return [status, headers.get('content-type')];
    };
    expect(await typeOf('/number-status')).toEqual([201, 'text/plain;charset=utf-8']);
    expect(await typeOf('/custom-status')).toEqual([201, 'text/plain;charset=utf-8']);
    expect(await typeOf('/text-empty')).toEqual([204, null]);
    expect(await typeOf('/text-replaced')).toEqual([201, 'application/octet-stream']);
  });

  it('are limited; health checks are not', async () => {
    const server = await runAlone({
      limits: { requests: { maxConcurrent: 1, maxPayloadSize: 100 } },
    });
    const slow = server.get('/slow?ms=1000');
    await server.tells('slow begins');
    for (const path of ['/hello', '/stats'])
      expect((await fetch(url(server, path))).status).toBe(503);
    expect((await fetch(url(server, '/health/ready'))).status).toBe(200);
    expect(await slow).toBe('slow');
    const post = (size: number): Promise<Response> =>
      fetch(url(server, '/json'), {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify('x'.repeat(size)),
      });
    expect((await post(98)).status).toBe(200);
    const body = (): ReadableStream<Uint8Array> =>
      new Response(JSON.stringify('x'.repeat(99))).body!;
    const chunked = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: body(),
      duplex: 'half',
    } as RequestInit;
    for (const answer of [await post(99), await fetch(url(server, '/json'), chunked)]) {
      expect([answer.status, await answer.json()]).toEqual([
        413,
        { code: 'payload_too_large', message: 'Payload too large' },
      ]);
    }
    const { requests } = JSON.parse(await server.get('/stats')) as {
      requests: { refused: object };
    };
    expect(requests.refused).toMatchObject({ payload_too_large: 2 });
  });

  it('and handshakes behind two layers have the limits of their own client, and are measured', async () => {
    const server = await runAlone({
      measured: true,
      trustedProxies: ['127.0.0.1'],
      limits: {
        connections: { maxPerIp: 1 },
        requests: { maxConcurrentPerIp: 1, maxPayloadSize: 9 },
      },
      requests: { rate: { perIp: { limit: 2, windowMs: 60_000 } } },
    });
    const by = (client: string): Record<string, string> => ({ 'x-forwarded-for': client });
    const of = async (client: string, path = '/hello', init = {}): Promise<unknown[]> => {
      const answer = await fetch(url(server, path), { headers: by(client), ...init });
      return [answer.status, await answer.text(), answer.headers.get('x-outer')];
    };
    const refused = (code: string, status = 429): unknown[] => [
      status,
      expect.stringContaining(code),
      null,
    ];
    // A socket that opens spends no rate of requests, and is none in flight.
    for (const client of ['192.0.2.1', '192.0.2.2']) {
      await server.open('/ws', by(client));
      expect((await server.handshake(by(client))).status).toBe(429);
    }
    const slow = of('192.0.2.1', '/slow?ms=500');
    await server.tells('slow begins');
    expect(await of('192.0.2.1')).toEqual(refused('too_many_requests_of_ip'));
    expect(await of('192.0.2.2')).toEqual([200, 'hello from /hello', 'yes']);
    expect(await slow).toEqual([200, 'slow', 'yes']);
    for (const client of ['192.0.2.1', '192.0.2.2']) {
      expect(await of(client)).toEqual([200, 'hello from /hello', 'yes']);
      expect(await of(client)).toEqual(refused('ip_request_rate'));
    }
    // Without a length, only a request that is no handshake has its body counted.
    const body = new Response('"123456789"').body;
    const headers = { ...by('192.0.2.3'), 'content-type': 'application/json' };
    const post = { method: 'POST', headers, body, duplex: 'half' };
    expect(await of('192.0.2.3', '/json', post)).toEqual(refused('payload_too_large', 413));
    const [, measured] = await of('192.0.2.3', '/measured');
    expect(JSON.parse(String(measured))).toEqual([
      { '/hello': 3, '/slow': 1 },
      { ip_limit: 2, too_many_requests_of_ip: 1, ip_request_rate: 2, payload_too_large: 1 },
    ]);
  });
});

describe('health', () => {
  it('is not ready as soon as the shutdown begins, and stays live', async () => {
    const server = await runAlone({ shutdown: { preDrainDelayMs: 1000 } });
    expect(await server.get('/health/ready')).toBe('{"status":"ready"}');
    expect(await server.get('/health/live')).toBe('{"status":"live"}');
    const result = server.end();
    let answer = await fetch(url(server, '/health/ready'));
    while (answer.status === 200) answer = await fetch(url(server, '/health/ready'));
    expect([answer.status, answer.headers.get('content-type'), await answer.json()]).toMatchObject([
      503,
      'application/problem+json',
      { title: 'Service Unavailable', status: 503, phase: 'notReady' },
    ]);
    expect((await fetch(url(server, '/health/live'))).status).toBe(200);
    // The server goes on serving until the delay is over.
    expect(await server.get('/hello')).toBe('hello from /hello');
    expect(await result).toMatchObject({ graceful: true, reason: 'stop', code: 0, unhandled: [] });
  });

  it('is answered by GET and HEAD while all other requests are refused', async () => {
    const server = await run({ limits: { requests: { maxConcurrent: 0 } } });
    for (const path of [
      '/health/live',
      '/health/live/',
      '/health/ready',
      '/health/ready?verbose',
      '/health/startup',
    ]) {
      for (const method of ['GET', 'HEAD'])
        expect([method, path, (await fetch(url(server, path), { method })).status]).toEqual([
          method,
          path,
          200,
        ]);
    }
    for (const path of ['/hello', '/health', '/health/live/x', '/', '/stats', '/stats/'])
      expect((await fetch(url(server, path))).status).toBe(503);
  });

  it('is public, while /stats passes token, rates and middleware as a route does', () => {
    const out = script(`
      const { createHmac } = await import('node:crypto');
      const { TokenVerifier } = await import('./dist/index.js');
      const secret = 'x'.repeat(40);
      const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret }, audience: null });
      const encoded = (part) => Buffer.from(JSON.stringify(part)).toString('base64url');
      const signed = encoded({ alg: 'HS256', typ: 'JWT' }) + '.' + encoded({ sub: 'ann', exp: Math.floor(Date.now() / 1000) + 600 });
      const token = signed + '.' + createHmac('sha256', secret).update(signed).digest('base64url');
      const auth = { verifier, http: true };
      const server = await new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1', auth, requests: { rate: { perIp: { limit: 3, windowMs: 60_000 } } } })
        .middleware({ name: 'one', middleware: (context, next) => { context.set.headers['x-one'] = 'seen'; return next(); } }).start();
      const ask = async (path, token) => {
        const answer = await fetch(new URL(path, server.url), { headers: token === undefined ? {} : { authorization: 'Bearer ' + token } });
        return [path, answer.status, answer.headers.get('x-one'), answer.status === 200 && path.startsWith('/stats') ? (await answer.json()).requests.active : ''].join(' ');
      };
      for (const path of ['/stats', '/stats/']) console.log(await ask(path));
      for (const path of ['/stats', '/stats', '/health/live']) console.log(await ask(path, token));
      await server.stop();
    `);
    expect(out.split('\n')).toEqual([
      '/stats 401 seen ',
      '/stats/ 401 seen ',
      '/stats 200 seen 1',
      '/stats 429  ',
      '/health/live 200',
    ]);
  });

  it('has no endpoints that were switched off', async () => {
    const server = await run({
      endpoints: { live: false, ready: false, startup: false, stats: false },
    });
    for (const path of ['/health/live', '/health/ready', '/health/startup', '/stats'])
      expect((await fetch(url(server, path))).status).toBe(404);
  });
});

describe('auth', () => {
  it('admits a client with a token as its user, and refuses others with 401 before the upgrade', async () => {
    const server = await run({ verifies: true, limits: { connections: { maxPerUser: 1 } } });
    const ann = await server.open('/ws', { Authorization: 'Bearer ann' });
    expect((await tell(ann, { type: 'who' })).payload).toEqual(['ann', 'ann', 1, '127.0.0.1']);
    const again = await server.handshake({ Authorization: 'bearer ann' });
    expect([again.status, JSON.parse(again.body)]).toMatchObject([429, { code: 'user_limit' }]);
    const none = await server.handshake();
    expect([none.status, /www-authenticate: (.*)/.exec(none.headers)?.[1]?.trim()]).toEqual([
      401,
      'bearer',
    ]);
    const expired = await server.handshake({ Authorization: 'Bearer expired' });
    expect(expired.status).toBe(401);
    expect(expired.headers).toContain(
      'www-authenticate: bearer error="invalid_token", error_description="expired"',
    );
    for (const header of ['Basic ann', 'Bearer ', 'Bearer nobody', `Bearer ${'x'.repeat(9000)}`]) {
      expect((await server.handshake({ Authorization: header })).status).toBe(401);
    }
    const failed = await server.handshake({ Authorization: 'Bearer throw' });
    expect([failed.status, failed.body.includes('secret')]).toEqual([500, false]);
  });
});

describe('a builder', () => {
  it('accepts options by fluent methods until it is built', () => {
    const out = script(`
      const builder = new ElysiaServerBuilder().port(0).hostname('127.0.0.1').websocket({ path: '/socket' }).limits({ requests: { maxConcurrent: 5 } })
        .limits({ requests: { timeoutMs: 1000 } }).trustedProxies(['127.0.0.1']).shutdown({ deadlineMs: 1000 }).endpoints({ stats: false });
      const app = builder.build();
      console.log(app === builder.build(), thrown(() => builder.port(1)), thrown(() => builder.on('x', () => undefined)));
      const first = builder.start();
      console.log(first === builder.start());
      const server = await first;
      console.log(server.app === app, server.port > 0, server.url.port === String(server.port), (await fetch(new URL('/stats', server.url))).status);
      console.log(server.stop() === server.stop(), (await server.stop()).graceful, server.timers.getActiveTimersCount());
    `);
    expect(out.split('\n')).toEqual([
      'true ERR_CLOSED  ERR_CLOSED ',
      'true',
      'true true true 404',
      'true true 0',
    ]);
  });

  it('keeps what an earlier call has set where a later one has undefined', () => {
    const out = script(`
      const rate = { limit: 7, windowMs: 60_000 };
      const server = await new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1', limits: { connections: { maxTotal: 9 } } })
        .limits({ connections: { maxPerIp: 5 }, requests: { maxConcurrent: 3 } }).limits({ connections: { maxTotal: undefined, maxPerIp: undefined }, requests: undefined })
        .rates({ messageRate: rate }).rates({ messageRate: undefined, byteRate: rate }).endpoints({ stats: false }).endpoints({ stats: undefined })
        .websocket({ path: '/mine' }).websocket({ path: undefined }).shutdown({ closeCode: 1012 }).shutdown({ closeCode: undefined })
        .hostname(undefined).refusalHeaders({ 'x-a': '1' }).refusalHeaders(undefined).page({ path: '/live', token: 'x'.repeat(32), chain: undefined }).start();
      const { maxTotalConnections, maxConnectionsPerIp, messageRate, byteRate } = server.manager.snapshot().limits;
      console.log(maxTotalConnections, maxConnectionsPerIp, messageRate.limit, byteRate.limit);
      console.log((await fetch(new URL('/stats', server.url))).status, server.url.hostname);
      const client = new WebSocket(new URL('/mine', server.url.href.replace('http', 'ws')));
      await new Promise((resolve) => (client.onopen = resolve));
      const closed = new Promise((resolve) => (client.onclose = ({ code }) => resolve(code)));
      await server.stop();
      console.log(await closed);
      console.log(thrown(() => new ElysiaServerBuilder().limits(undefined)), thrown(() => new ElysiaServerBuilder().rates(undefined)));
    `);
    expect(out.split('\n')).toEqual([
      '9 5 7 7',
      '404 127.0.0.1',
      '1012',
      'ERR_INVALID_ARG_TYPE limits ERR_INVALID_ARG_TYPE rates',
    ]);
  });

  it('takes options from the getters of a class, sections included, and keeps methods with their object', () => {
    const out = script(`
      const verifier = { safeVerify: () => ({ success: false, error: { code: 'ERR_TOKEN_REQUIRED', message: 'no' } }) };
      const ofClass = (options) => Object.create(Object.create(null, Object.fromEntries(Object.entries(options).map(([name, value]) => [name, { get: () => value }]))));
      class Handler { #greeting = 'hi'; open(connection) { connection.send({ type: 'hello', payload: this.#greeting }); } }
      const upgrade = { headers: { upgrade: 'websocket', connection: 'Upgrade', 'sec-websocket-key': 'dGhlIHNhbXBsZSBub25jZQ==', 'sec-websocket-version': '13' } };
      const options = ofClass({ port: 0, auth: verifier, limits: ofClass({ connections: ofClass({ maxPerIp: 2 }) }), rates: ofClass({ messageRate: ofClass({ limit: 3, windowMs: 1000 }) }), endpoints: ofClass({ stats: false }) });
      const one = await new ElysiaServerBuilder(options).start();
      const { maxConnectionsPerIp, messageRate } = one.manager.snapshot().limits;
      console.log(maxConnectionsPerIp, messageRate.limit, (await fetch(new URL('/ws', one.url), upgrade)).status, (await fetch(new URL('/stats', one.url))).status);
      const two = await new ElysiaServerBuilder({ port: 0 }).limits(ofClass({ connections: ofClass({ maxPerIp: 4 }) })).rates(ofClass({ byteRate: { limit: 5, windowMs: 1000 } }))
        .endpoints(ofClass({ ready: false })).websocket(ofClass({ path: '/mine', handler: new Handler() })).shutdown(ofClass({ closeCode: 1012 })).page(ofClass({ path: '/p', token: 'x'.repeat(16) })).start();
      const client = new WebSocket(new URL('/mine', two.url.href.replace('http', 'ws')));
      const greeting = await new Promise((resolve) => (client.onmessage = ({ data }) => resolve(JSON.parse(data).payload)));
      const limits = two.manager.snapshot().limits;
      console.log(limits.maxConnectionsPerIp, limits.byteRate.limit, greeting, (await fetch(new URL('/health/ready', two.url))).status, (await fetch(new URL('/p', two.url))).status);
      const closed = new Promise((resolve) => (client.onclose = ({ code }) => resolve(code)));
      await Promise.all([one.stop(), two.stop()]);
      console.log(await closed);
    `);
    expect(out.split('\n')).toEqual(['2 3 401 404', '4 5 hi 404 401', '1012']);
  });

  it('takes its options in any order, and refuses a combination when it is built', () => {
    const out = script(`
      const of = () => new ElysiaServerBuilder({ port: 0 });
      const built = (builder) => thrown(() => builder().build());
      let names = 0;
      const name = () => \`order-\${names++}-\${process.pid}\`;
      for (const builder of [
        () => of().hostCapacity(2048).cluster('host', name()),
        () => of().hostProcesses(4).name(name()).cluster('host'),
        () => new ElysiaServerBuilder({ hostCapacity: 2048 }).cluster('host', name()),
        () => of().clientAddress('cf-connecting-ip').trustedProxies(['10.0.0.0/8']),
        () => of().shutdown({ preDrainDelayMs: 30_000 }).shutdown({ deadlineMs: 60_000 }),
        () => of().hostCapacity(2048),
        () => of().cluster('host'),
        () => of().clientAddress('cf-connecting-ip'),
        () => of().shutdown({ preDrainDelayMs: 30_000 }),
        () => of().shutdown({ readyNeedsCluster: true }),
        () => of().hostCapacity(5),
        () => of().shutdown({ deadlineMs: 0 }),
      ]) console.log(built(builder));
    `);
    expect(out.split('\n')).toEqual([
      ...Array.from({ length: 5 }, () => 'nothing'),
      'ERR_OUT_OF_RANGE hostCapacity',
      'ERR_INVALID_ARG_TYPE name',
      'ERR_INVALID_ARG_TYPE trustedProxies',
      'ERR_OUT_OF_RANGE shutdown.deadlineMs',
      'ERR_INVALID_ARG_TYPE shutdown.cluster',
      'ERR_OUT_OF_RANGE hostCapacity',
      'ERR_OUT_OF_RANGE shutdown.deadlineMs',
    ]);
  });

  it('refuses a page in the place of its own endpoints and its WebSockets, and paths that no request has', () => {
    const out = script(`
      const page = (path, more = {}) => thrown(() => new ElysiaServerBuilder({ page: { path, token: 'x'.repeat(16) }, ...more }).build());
      console.log(['/health', '/health/live', '/stats', '/ws', '/portcullis', '/healthy', '/ws2'].map((path) => page(path)).join());
      console.log(page('/health', { endpoints: { live: false, ready: false, startup: false } }), page('/ws', { websocket: { enabled: false } }), page('/chat', { websocket: { path: '/chat/rooms' } }));
      for (const path of ['/ws?x', '/ws#x', '/a b', '/\\ud800', '/\\n', '/a\\\\b', '/rooms/:id', '/ch\u00e4t'])
        console.log(thrown(() => new ElysiaServerBuilder({ websocket: { path } }).build()));
    `);
    const refused = 'ERR_OUT_OF_RANGE page.path';
    expect(out.split('\n')).toEqual([
      [refused, refused, refused, refused, 'nothing', 'nothing', 'nothing'].join(),
      `nothing nothing ${refused}`,
      ...Array.from({ length: 6 }, () => 'ERR_OUT_OF_RANGE websocket.path'),
      'nothing',
      'nothing',
    ]);
  });

  it('has a method for each option', () => {
    const out = script(`
      const { allowed } = (() => { try { new ElysiaServerBuilder({ x: 1 }); } catch (error) { return error; } })();
      console.log(allowed.split(', ').filter((name) => typeof new ElysiaServerBuilder()[name] !== 'function').join());
    `);
    // middleware() adds one.
    expect(out).toBe('middlewares');
  });

  it('takes a limit by its alias in the place of its name, and the other way round', () => {
    const out = script(`
      const pings = async (...all) => {
        const builder = new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1', limits: { websockets: all[0] } });
        for (const websockets of all.slice(1)) builder.limits({ websockets });
        const server = await builder.start();
        const client = new WebSocket(new URL('/ws', server.url.href.replace('http', 'ws')));
        await new Promise((resolve) => (client.onopen = resolve));
        for (let turn = 0; turn < 1000 && server.snapshot().websockets.pingsSent === 0; turn++) await new Promise((resolve) => setTimeout(resolve, 5));
        const { pingsSent } = server.snapshot().websockets;
        await server.stop();
        return pingsSent > 0;
      };
      console.log(await pings({ pingIntervalMs: 60_000 }, { pingInterval: 10 }), await pings({ pingInterval: 60_000 }, { pingIntervalMs: 10 }));
      console.log(thrown(() => new ElysiaServerBuilder().limits({ memory: { maxHeapSizeMb: 100, maxHeapSize: 200 } })));
      // Judged together with the limits that stay.
      console.log(thrown(() => new ElysiaServerBuilder().limits({ memory: { criticalThreshold: 99 } }).limits({ memory: { warningThreshold: 95 } })));
    `);
    expect(out.split('\n')).toEqual([
      'true true',
      'ERR_OUT_OF_RANGE limits.memory.maxHeapSizeMb',
      'nothing',
    ]);
  });

  it('answers refusals as the application wants, exempts clients, and tells sockets of the drain', async () => {
    const out = script(`
      const refused = [];
      const build = (limits) => new ElysiaServerBuilder({ limits }).port(0).hostname('127.0.0.1').refusalHeaders({ 'x-service': 'chat' }).refusalFormat('problem')
        .onDrain(({ socket }) => socket.send('bye'))
        .onRefused((request, refusal) => (refused.push(new URL(request.url).pathname, refusal.code), { status: 429, body: 'own' }))
        .routes((app) => app.get('/slow', () => new Promise(() => undefined)).get('/draining', ({ portcullis }) => String(portcullis.draining.aborted)));
      const server = await build({ connections: { maxPerIp: 1 }, requests: { maxConcurrent: 0 } }).start();
      const answer = await fetch(server.url);
      console.log(answer.status, answer.headers.get('x-service'), answer.headers.get('content-type'), await answer.text(), refused.join());
      await server.stop();
      const free = await build({ connections: { maxPerIp: 1 } }).exempt(['127.0.0.1']).start();
      const open = async () => {
        const client = new WebSocket(new URL('/ws', free.url.href.replace('http', 'ws')));
        await new Promise((resolve) => (client.onopen = resolve));
        const heard = new Promise((resolve) => (client.onmessage = ({ data }) => resolve(data)));
        return [heard, new Promise((resolve) => (client.onclose = ({ code }) => resolve(code))), client];
      };
      const clients = [await open(), await open()];
      console.log(free.manager.total, await (await fetch(new URL('/draining', free.url))).text());
      clients[1][2].close();
      await clients[1][1];
      await free.stop();
      console.log(JSON.stringify(await Promise.all(clients[0].slice(0, 2))));
    `);
    expect(out.split('\n')).toEqual([
      '429 chat application/problem+json own /,too_many_requests_in_flight',
      '2 false',
      '["bye",1001]',
    ]);
  });

  it('accepts handlers as an option, and each type once', () => {
    const out = script(`
      const websocket = { handlers: { shout: (_connection, { payload }) => ({ type: 'shouted', payload: payload.toUpperCase() }) } };
      const server = await new ElysiaServerBuilder({ port: 0, websocket }).start();
      const client = new WebSocket(new URL('/ws', server.url.href.replace('http', 'ws')));
      client.onopen = () => client.send('{"type":"shout","payload":"a"}');
      const { data } = await new Promise((resolve) => (client.onmessage = resolve));
      console.log(JSON.parse(data).type, JSON.parse(data).payload);
      await server.stop();
      console.log(thrown(() => new ElysiaServerBuilder({ websocket }).on('shout', () => undefined)));
      console.log(thrown(() => new ElysiaServerBuilder().on('shout', () => undefined).websocket(websocket)));
      console.log(thrown(() => new ElysiaServerBuilder({ websocket: { handlers: { shout: 5 } } })));
    `);
    expect(out.split('\n')).toEqual([
      'shouted A',
      'ERR_OUT_OF_RANGE type',
      'ERR_OUT_OF_RANGE websocket.handlers',
      'ERR_INVALID_ARG_TYPE websocket.handlers.shout',
    ]);
  });

  it.each([
    ['without layers', ''],
    ['with a layer', ".middleware({ name: 'one', middleware: (_context, next) => next() })"],
  ])(
    'hides the error of a route from clients, %s, unless the application answers it',
    (_, layer) => {
      const out = script(`
      const boom = () => { throw new Error('a secret'); };
      const told = [];
      const server = await new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1' })${layer}.onError((error, where) => told.push(where + ' ' + error.message))
        .routes((app) => app.get('/sync', boom).get('/async', async () => { await 1; boom(); }).get('/meant', ({ status }) => status(418, 'a secret'))
          .get('/bad', () => { throw Object.assign(new Error('yours'), { status: 400 }); })
          .get('/own', boom, { error: ({ set }) => { set.status = 503; return 'own'; } }).get('/fine', () => new Response('a secret', { status: 500 })))
        .start();
      for (const path of ['/sync', '/async', '/meant', '/bad', '/own', '/fine']) {
        const answer = await fetch(new URL(path, server.url));
        console.log(path, answer.status, await answer.text());
      }
      console.log(told.join(', '));
      await server.stop();
    `);
      const hidden = '{"code":"internal_error","message":"Internal error"}';
      const answers = [
        `/sync 500 ${hidden}`,
        `/async 500 ${hidden}`,
        '/meant 418 a secret',
        '/bad 400 yours',
        '/own 503 own',
        '/fine 500 a secret',
      ];
      expect(out.split('\n')).toEqual([
        ...answers,
        'route a secret, route a secret, route a secret',
      ]);
    },
  );

  it.each([
    ['without layers', ''],
    ['with a layer', ".middleware({ name: 'one', middleware: (_context, next) => next() })"],
  ])('hides whatever a route throws from clients, %s, and tells onError', (_, layer) => {
    const out = script(`
      const { Elysia, NotFoundError, status } = await import('elysia');
      class DbError extends Error {}
      const secret = (fields) => Object.assign(new Error('SECRET'), fields);
      const circle = { text: 'SECRET' };
      circle.circle = circle;
      const throws = {
        system: () => secret({ code: 'ECONNREFUSED' }), database: () => secret({ code: '23505' }), own: () => secret({ code: 'NOT_FOUND' }),
        registered: () => new DbError('SECRET'), above: () => secret({ status: 503 }), text: () => secret({ message: { text: 'SECRET' } }),
        coded: () => ({ code: 'X', text: 'SECRET' }), message: () => ({ message: 'SECRET' }), list: () => ['SECRET'], string: () => 'SECRET',
        called: () => () => 'SECRET', blob: () => new Blob(['SECRET']), nothing: () => undefined, symbol: () => Symbol('SECRET'), circle: () => circle,
        converts: () => secret({ toResponse() { throw new Error('no'); } }),
      };
      const told = [];
      const server = await new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1' })${layer}.onError((_error, where) => told.push(where))
        .routes((app) => {
          app.error({ DB: DbError }).mapResponse(({ path, response }) => path.startsWith('/mapped') && response !== undefined ? Response.json({ response }) : undefined);
          for (const [name, make] of Object.entries(throws))
            app.get('/' + name, () => { throw make(); }).get('/later/' + name, async () => { await 1; throw make(); })
              .get('/found/' + name, ({ set }) => { set.status = 404; throw make(); })
              .get('/after/' + name, () => 'fine', { afterHandle() { throw make(); } })
              .get('/traced/' + name, () => { throw make(); }, { afterResponse() {}, error() {} })
              .get('/mapped/' + name, () => { throw make(); })
              .use(new Elysia({ prefix: '/plugin' }).onError(() => undefined).get(name, () => { throw make(); }));
          return app.get('/gone', () => { throw new NotFoundError('no such user'); }).get('/status', () => { throw status(503, 'busy'); })
            .get('/response', () => { throw new Response('mine', { status: 502 }); })
            .get('/converted', () => { throw secret({ toResponse: () => new Response('SECRET', { status: 418 }) }); })
            .get('/answered', () => { throw secret({ code: 'X' }); }, { error: ({ error, status }) => status(409, 'not ' + error.message) });
        }).start();
      const ask = async (path) => {
        told.length = 0;
        const answer = await fetch(new URL(path, server.url));
        return [answer.status, await answer.text(), ...told].join(' ');
      };
      for (const name of Object.keys(throws))
        for (const at of ['', 'later/', 'found/', 'after/', 'traced/', 'mapped/', 'plugin/']) {
          const answer = await ask(at + name);
          if (answer !== '500 {"code":"internal_error","message":"Internal error"} route') console.log(at + name, answer);
        }
      for (const path of ['gone', 'status', 'response', 'converted', 'answered', 'nowhere']) console.log(path, await ask(path));
      await server.stop();
      process.exit();
    `);
    expect(out.split('\n').filter((line) => /^[\w/]+ \d/.test(line))).toEqual([
      'gone 404 no such user',
      'status 503 busy',
      'response 502 mine',
      'converted 418 SECRET route',
      'answered 409 not SECRET route',
      'nowhere 404 NOT_FOUND',
    ]);
  });

  it('that fails to build leaves no timer and no listener', () => {
    const out = script(`
      const { TimerManager } = await import('./dist/index.js');
      const before = process.listenerCount('SIGTERM');
      for (const routes of [() => 5, () => { throw Object.assign(new Error('no route'), { code: 'MINE', field: '' }); }]) {
        const timers = new TimerManager();
        const left = () => timers.getActiveTimersCount() + process.listenerCount('SIGTERM') - before;
        console.log(thrown(() => new ElysiaServerBuilder({ timers, shutdown: { signals: ['SIGTERM'], preDrainDelayMs: 0 } }).routes(routes).build()));
        for (let turn = 0; turn < 1000 && left() > 0; turn++) await new Promise((resolve) => setImmediate(resolve));
        console.log(left());
      }
      process.exit();
    `);
    expect(out.split('\n')).toEqual(['ERR_INVALID_ARG_TYPE add', '0', 'MINE ', '0']);
  });

  it('checks a shutdown hook when it is added', () => {
    const out = script(`
      const builder = new ElysiaServerBuilder();
      for (const options of [{ timeoutMs: -1 }, { timeoutMs: '5' }, { timeout: 5 }, null]) console.log(thrown(() => builder.onShutdown('db', () => {}, options)));
      console.log(thrown(() => builder.onShutdown('', () => {})), thrown(() => builder.onShutdown('db', 5)), thrown(() => builder.build()));
      process.exit();
    `);
    expect(out.split('\n')).toEqual([
      'ERR_OUT_OF_RANGE timeoutMs',
      'ERR_INVALID_ARG_TYPE timeoutMs',
      'ERR_UNKNOWN_OPTION timeout',
      'ERR_INVALID_ARG_TYPE options',
      'ERR_INVALID_ARG_TYPE name ERR_INVALID_ARG_TYPE hook nothing',
    ]);
  });

  it('that has failed to build can be built again, and its given timers stay open', () => {
    const out = script(`
      const { ConnectionManager, TimerManager } = await import('./dist/index.js');
      const timers = new TimerManager();
      const before = process.listenerCount('SIGTERM');
      const taken = new ConnectionManager({ maxTotalConnections: 1 }, timers, { name: 'taken' });
      const left = timers.getActiveTimersCount();
      let fails = true;
      const builder = new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1', timers, name: 'taken', shutdown: { signals: ['SIGTERM'] }, limits: { memory: {} }, websocket: { handlers: { say: () => undefined } } })
        .on('add', () => undefined).onShutdown('db', () => console.log('closed once'))
        .routes((app) => { if (fails) throw Object.assign(new Error('not yet'), { code: 'MINE', field: '' }); return app.get('/', () => 'built'); });
      for (let time = 0; time < 3; time++) console.log(thrown(() => builder.build()), timers.getActiveTimersCount() - left, process.listenerCount('SIGTERM') - before);
      taken.close();
      const none = timers.getActiveTimersCount();
      for (let time = 0; time < 3; time++) console.log(thrown(() => builder.build()), timers.getActiveTimersCount() - none, process.listenerCount('SIGTERM') - before);
      fails = false;
      const server = await builder.start();
      console.log(await (await fetch(server.url)).text(), process.listenerCount('SIGTERM') - before);
      await server.stop();
    `);
    const conflict = 'ERR_LIMITS_CONFLICT name 0 0';
    const failure = 'MINE  0 0';
    expect(out.split('\n')).toEqual([
      conflict,
      conflict,
      conflict,
      failure,
      failure,
      failure,
      'built 1',
      'closed once',
    ]);
  });

  it('rejects with ERR_CLOSED when the shutdown begins before it listens, and never listens', () => {
    const out = script(`
      const { Elysia } = await import('elysia');
      const { promise, resolve } = Promise.withResolvers();
      const make = () => new ElysiaServerBuilder({ port: 0, hostname: '127.0.0.1', shutdown: { signals: ['SIGTERM'], preDrainDelayMs: 0, exit: false } })
        .onShutdown('db', () => console.log('hook'));
      const code = (started) => started.then(() => 'started', ({ code }) => code);
      const waits = make().routes((app) => app.use(promise));
      const started = waits.start();
      process.emit('SIGTERM');
      // The modules are still loading.
      console.log(await code(started));
      resolve(new Elysia().get('/late', () => 'late'));
      await waits.build().modules;
      console.log(waits.build().server);
      const built = make();
      built.build();
      process.emit('SIGTERM');
      console.log(await code(built.start()), built.build().server, process.listenerCount('SIGTERM'));
    `);
    expect(out.split('\n')).toEqual(['hook', 'ERR_CLOSED', 'null', 'hook', 'ERR_CLOSED null 0']);
  });

  it('does not start without a plugin that could not load, and reports its error', () => {
    const out = script(`
      const { Elysia } = await import('elysia');
      const fails = async () => { throw new Error('not loaded'); };
      const ways = {
        promise: (app) => app.use(fails()), function: (app) => app.use(fails), nested: (app) => app.use(new Elysia().use(fails())),
        guard: (app) => app.guard({}, (inner) => inner.use(fails())),
        around: (app) => new Elysia().use(app).use(fails()), noPlugin: (app) => app.use(Promise.resolve({ default: 5 })),
      };
      console.error = () => undefined;
      for (const [way, routes] of Object.entries(ways)) {
        const told = [];
        const builder = new ElysiaServerBuilder({ port: 0, onError: (error, where) => told.push(where, error.message) }).routes(routes);
        console.log(way, await builder.start().then(() => 'started', ({ message }) => message), told.join(' '), builder.build().server);
      }
      process.exit();
    `);
    expect(out.split('\n')).toEqual([
      ...['promise', 'function', 'nested', 'guard', 'around'].map(
        (way) => `${way} not loaded plugin not loaded null`,
      ),
      expect.stringMatching(/^noPlugin (.+) plugin \1 null$/),
    ]);
  });

  it('refuses a wrong option by the name of its field', () => {
    const out = script(`
      const { TimerManager } = await import('./dist/index.js');
      const wrong = [{ prot: 1 }, { port: -1 }, { port: '80' }, { hostname: '' }, { websocket: { path: 'ws' } }, { websocket: { path: '/a/../ws' } }, { websocket: { onInvalid: 'x' } },
        { websocket: { handler: { opne() {} } } }, { limits: { requests: { timeoutMs: 0 } } }, { middlewares: {} }, { middlewares: [{ middleware() {} }] },
        { middlewares: [{ name: 'a', middleware: 5 }] }, { auth: {} }, { trustedProxies: ['x'] }, { shutdown: { deadlineMs: 0 } }, { endpoints: { live: 1 } },
        { shutdown: { deadline: 5 } }, { shutdown: { timers: new TimerManager() } }, { shutdown: { signals: ['SIGX'] } }, { shutdown: 5 }, { rates: { messageRate: { limit: 0 } } },
        { limits: { memory: { heap: 1 } } }, { limits: { cpu: 1 } }, { limits: 5 }, { websocket: { handlers: { '': () => {} } } }, { websocket: { handlers: { a: 5 } } },
        { middlewares: [{ name: 'a', middleware() {} }, { name: 'a', middleware() {} }] },
        { timers: {} }, { monitor: { mark() {} } }, { metrics: {} }, { onError: 1 }, null,
        { onRefused: 1 }, { refusalHeaders: { connection: 'x' } }, { refusalFormat: 'xml' }, { exempt: ['x'] }, { cluster: {} }, { cluster: {}, name: 'a' }, { name: '' }, { onDrain: 1 }];
      for (const options of wrong) console.log(thrown(() => new ElysiaServerBuilder(options)));
    `);
    expect(out.split('\n')).toEqual([
      'ERR_UNKNOWN_OPTION prot',
      'ERR_OUT_OF_RANGE port',
      'ERR_INVALID_ARG_TYPE port',
      'ERR_INVALID_ARG_TYPE hostname',
      'ERR_INVALID_ARG_TYPE websocket.path',
      'ERR_OUT_OF_RANGE websocket.path',
      'ERR_OUT_OF_RANGE websocket.onInvalid',
      'ERR_UNKNOWN_OPTION websocket.handler.opne',
      'ERR_OUT_OF_RANGE limits.requests.timeoutMs',
      'ERR_INVALID_ARG_TYPE middlewares',
      'ERR_INVALID_ARG_TYPE middlewares[0].name',
      'ERR_INVALID_ARG_TYPE middleware "a".middleware',
      'ERR_INVALID_ARG_TYPE auth',
      'ERR_OUT_OF_RANGE trustedProxies[0]',
      'ERR_OUT_OF_RANGE shutdown.deadlineMs',
      'ERR_INVALID_ARG_TYPE endpoints.live',
      'ERR_UNKNOWN_OPTION shutdown.deadline',
      'ERR_UNKNOWN_OPTION shutdown.timers',
      'ERR_OUT_OF_RANGE shutdown.signals[0]',
      'ERR_INVALID_ARG_TYPE shutdown',
      'ERR_OUT_OF_RANGE rates.messageRate.limit',
      'ERR_UNKNOWN_OPTION limits.memory.heap',
      'ERR_UNKNOWN_OPTION limits.cpu',
      'ERR_INVALID_ARG_TYPE limits',
      'ERR_OUT_OF_RANGE websocket.handlers',
      'ERR_INVALID_ARG_TYPE websocket.handlers.a',
      'ERR_DUPLICATE_NAME middlewares.name',
      'ERR_INVALID_ARG_TYPE timers',
      'ERR_INVALID_ARG_TYPE monitor',
      'ERR_INVALID_ARG_TYPE metrics',
      'ERR_INVALID_ARG_TYPE onError',
      'ERR_INVALID_ARG_TYPE options',
      'ERR_INVALID_ARG_TYPE onRefused',
      'ERR_OUT_OF_RANGE refusalHeaders.connection',
      'ERR_OUT_OF_RANGE refusalFormat',
      'ERR_OUT_OF_RANGE exempt[0]',
      'ERR_INVALID_ARG_TYPE cluster',
      'ERR_INVALID_ARG_TYPE cluster',
      'ERR_INVALID_ARG_TYPE name',
      'ERR_INVALID_ARG_TYPE onDrain',
    ]);
  });

  it('suggests an option of the shutdown only if the server takes it', () => {
    const out = script(`
      for (const shutdown of [{ timeoutMs: 5 }, { hookTimeout: 5 }, { timers: undefined }])
        try { new ElysiaServerBuilder({ shutdown }); console.log('nothing'); }
        catch ({ message, field, allowed }) { console.log(message, field, allowed.includes('timers')); }
    `);
    expect(out.split('\n')).toEqual([
      expect.stringMatching(
        /^shutdown has no option "timeoutMs"(, did you mean (?!timers)\w+\?)? shutdown.timeoutMs false$/,
      ),
      'shutdown has no option "hookTimeout", did you mean hookTimeoutMs? shutdown.hookTimeout false',
      'nothing',
    ]);
  });

  it('rejects when its port is taken, and leaves nothing behind', () => {
    const out = script(`
      const first = await new ElysiaServerBuilder({ port: 0 }).start();
      const builder = new ElysiaServerBuilder({ port: first.port, shutdown: { signals: ['SIGTERM'] } });
      console.log(await builder.start().then(() => 'started', (error) => error.code), process.listenerCount('SIGTERM'));
      await first.stop();
    `);
    expect(out).toBe('EADDRINUSE 0');
  });

  it('says on Node to use portcullis/ws', () => {
    const code = `const { ElysiaServerBuilder } = await import('./dist/elysia.js'); try { new ElysiaServerBuilder(); } catch ({ code, message }) { console.log(code, message); }`;
    const { stdout } = spawnSync('node', ['--input-type=module', '-e', code], { encoding: 'utf8' });
    expect(stdout.trim()).toBe(
      'ERR_UNSUPPORTED ElysiaServerBuilder needs Bun: on Node use portcullis/ws with an http server',
    );
  });
});

it('the adapter for Bun says on Node to use portcullis/ws', () => {
  const script = `const { portcullis } = await import('./dist/bun.js');
    try { portcullis({ limits: {} }); } catch ({ code, message }) { console.log(code, message.includes('use portcullis/ws')); }`;
  const { stdout } = spawnSync('node', ['--input-type=module', '-e', script], { encoding: 'utf8' });
  expect(stdout).toBe('ERR_UNSUPPORTED true\n');
});

describe('everything at once', () => {
  it('works as each part does alone, and leaves nothing behind', () => {
    const { stdout, stderr } = spawnSync(BUN, ['__test__/servers/whole.ts'], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(stderr).toContain('source: "maxHeapSizeMb"');
    expect(JSON.parse(stdout)).toEqual({
      answers: [
        ['/users/1', 200, 'yes', '1'],
        ['/users/2', 200, 'yes', '2'],
        ['/throws', 500, 'yes', expect.any(String)],
        ['/layer', 500, null, '{"code":"internal_error","message":"Internal error"}'],
        ['/hangs', 503, null, expect.stringContaining('handler_timeout')],
        ['/nowhere', 404, 'yes', 'NOT_FOUND'],
        ['/users/3', 503, null, expect.stringContaining('too_many_requests_in_flight')],
        ['/health/live', 200, null, '{"status":"live"}'],
      ],
      refusedSockets: [true, true, true],
      messages: ['pong', 'error', 1009],
      report: {
        samples: 7,
        errors: 4,
        refusals: {
          too_many_requests_in_flight: 1,
          user_limit: 1,
          ERR_TOKEN_REQUIRED: 1,
          ERR_TOKEN_ENCODING: 1,
        },
        inFlight: 0,
        users: 2,
        connections: 1,
        routes: ['GET  2', 'GET /hangs 2', 'GET /throws 1', 'GET /users/:id 2'],
      },
      during: {
        sockets: { open: 1, pingsSent: 0, pongTimeouts: 0, slowConsumers: 0, messagesTooLarge: 1 },
        authDenials: { ERR_TOKEN_REQUIRED: 1, ERR_TOKEN_ENCODING: 1 },
        watched: 1,
      },
      layers: ['mark', 'throws'],
      refusals: {
        user_limit: 1,
        ERR_TOKEN_REQUIRED: 1,
        ERR_TOKEN_ENCODING: 1,
        'request: handler_timeout': 2,
        'request: too_many_requests_in_flight': 1,
        'socket: message_too_large': 1,
      },
      closed: 1001,
      result: { graceful: true, forced: 0, hookErrors: 0 },
      left: [0, 0, 0, 0],
      told: [
        'route: of a route: its secret',
        'middleware: of a layer',
        'message fail: of a message',
      ],
      ownMonitor: [64, 0],
    });
  });
});

describe('a thousand clients', () => {
  it('connect, are answered, and are closed by the shutdown', async () => {
    const server = await runAlone({ silent: true, shutdown: { drainWindowMs: 300 } });
    const clients: WebSocket[] = [];
    for (let i = 0; i < 1000; i += 100)
      clients.push(...(await Promise.all(Array.from({ length: 100 }, () => server.open()))));
    expect(await server.total()).toBe(1000);
    const answers = await Promise.all(clients.map((client) => tell(client, { type: 'ping' })));
    expect(answers.filter(({ type }) => type === 'pong')).toHaveLength(1000);
    const codes = clients.map((client) => closeCode(client));
    const result = await server.end();
    expect(new Set(await Promise.all(codes))).toEqual(new Set([1001]));
    expect(result).toMatchObject({
      graceful: true,
      websocketsClosed: { acknowledged: 1000, forced: 0 },
    });
  }, 60_000);
});
