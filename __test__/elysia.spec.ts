import { Elysia, t } from 'elysia';
import { afterEach, describe, expect, it } from 'vitest';
import { checkedScoping } from '../dist/adapters/elysia-scope.js';
import { portcullis } from '../dist/elysia.js';
import type { PageSnapshot, PortcullisError, RateRefusal } from '../dist/index.js';
import { SECRET, token } from './fixtures/sign.js';
import { until } from './fixtures/until.js';
import { ask, cleanUp, closeCode, type Server, start, startAlone } from './servers/start.js';

// The plugin in apps as Elysia's users build them: real servers on Bun.
afterEach(cleanUp);

const BUN = 'node_modules/.bin/bun';
const APPS = '__test__/servers/elysia-apps.ts';
const app = (kind: string, options: object = {}): Promise<Server> =>
  start([BUN, APPS], { kind, ...options });

it('a route that answers at once does so behind the guard, too', () => {
  const rate = { limit: 2, windowMs: 60_000 };
  const guard = portcullis({ limits: {}, requests: { rate: { perIp: rate } } });
  const app = new Elysia()
    .use(guard)
    .get('/', () => 'hello')
    .get('/rated', () => 'hello', { portcullis: { rate } });
  for (const path of ['/', '/rated'])
    expect(app.fetch(new Request(`http://localhost${path}`))).toBeInstanceOf(Response);
  guard.decorator.portcullis.close();
});

describe('the rate of a route', () => {
  const rate = { limit: 1, windowMs: 60_000 };
  const told: RateRefusal[] = [];
  const onRateRefused = (refusal: RateRefusal): void => void told.push(refusal);
  /** Statuses of two requests of one client, and fields of the second answer. */
  async function twice(options: object): Promise<unknown[]> {
    told.length = 0;
    const guard = portcullis({ limits: {}, clientAddress: () => '2001:db8::1', ...options });
    const app = new Elysia().use(guard).get('/', () => 'hello', { portcullis: { rate } });
    const statuses: number[] = [];
    let headers = new Headers();
    for (let at = 0; at < 2; at++) {
      const response = await app.handle(new Request('http://localhost/'));
      statuses.push(response.status);
      headers = response.headers;
    }
    guard.decorator.portcullis.close();
    return [...statuses, headers.get('ratelimit'), headers.get('x-ratelimit-remaining')];
  }

  it('takes mode, header fields and onRateRefused of the rates of the guard', async () => {
    const of = (given: object): object => ({ requests: { rate: { onRateRefused, ...given } } });
    expect(await twice({})).toEqual([200, 429, '"ip:GET /";r=0;t=60', null]);
    expect(await twice(of({}))).toEqual([200, 429, '"ip:GET /";r=0;t=60', null]);
    expect(told).toMatchObject([{ scope: 'route', key: '2001:db8::/64', isEnforced: true }]);
    expect(await twice(of({ mode: 'observe' }))).toEqual([200, 200, null, null]);
    expect(told).toMatchObject([{ scope: 'route', isEnforced: false }]);
    expect(await twice(of({ headers: [], ipv6PrefixBits: 48 }))).toEqual([200, 429, null, null]);
    expect(told).toMatchObject([{ key: '2001:db8::/48' }]);
    // The older fields tell the limit with the least left: that of the route.
    const perIp = { limit: 9, windowMs: 60_000 };
    expect(await twice(of({ headers: ['x-ratelimit'], perIp }))).toEqual([200, 429, null, '0']);
  });

  it('does not count a request that fails the schema, as `perRoute` does', async () => {
    const body = t.Object({ name: t.String() });
    const statuses = async (rates: object, own: object): Promise<number[]> => {
      const guard = portcullis({ limits: {}, requests: { rate: { headers: [], ...rates } } });
      const app = new Elysia().use(guard).post('/login', () => 'hello', { body, ...own });
      const seen: number[] = [];
      for (const sent of [{}, {}, { name: 'ann' }, { name: 'ann' }, {}]) {
        const headers = { 'content-type': 'application/json' };
        const init = { method: 'POST', headers, body: JSON.stringify(sent) };
        seen.push((await app.handle(new Request('http://localhost/login', init))).status);
      }
      guard.decorator.portcullis.close();
      return seen;
    };
    expect(await statuses({}, { portcullis: { rate } })).toEqual([422, 422, 200, 429, 422]);
    const perRoute = { perRoute: { 'POST /login': rate } };
    expect(await statuses(perRoute, {})).toEqual([422, 429, 429, 429, 429]);
  });

  it('is only observed where the guard observes its limits, and counts no exempt client', async () => {
    const requests = { rate: { onRateRefused } };
    expect(await twice({ limits: { mode: 'observe' }, requests })).toEqual([200, 200, null, null]);
    expect(told).toMatchObject([{ scope: 'route', isEnforced: false }]);
    expect(await twice({ exempt: ['2001:db8::/32'], requests })).toEqual([200, 200, null, null]);
    expect(told).toEqual([]);
  });
});

describe('scoping', () => {
  it('guards one part each, and does not add up: admin 1, chat 3, free unguarded', async () => {
    const server = await app('a guard for each part');
    for (const [path, most] of [
      ['/admin', 1],
      ['/chat', 3],
    ] as const) {
      for (let i = 0; i < most; i++) expect(await ask(await server.open(path), 'in')).toBe('in');
      expect([path, (await server.handshake({}, path)).status]).toEqual([path, 429]);
      // A route sees the guard of its own part.
      expect(await server.get(`${path}/total`)).toBe(String(most));
    }
    for (let i = 0; i < 5; i++) expect(await ask(await server.open('/free'), 'in')).toBe('in');
    expect(await server.get('/opened')).toBe('9');
  });

  it('gives the seats of its part back', async () => {
    const server = await app('a guard for each part');
    (await server.open('/admin')).close();
    await expect.poll(() => server.get('/admin/total')).toBe('0');
    expect(await ask(await server.open('/admin'), 'in')).toBe('in');
  });

  it('guards the routes of a group', async () => {
    const server = await app('a guard for a group');
    await server.open('/admin/one');
    expect((await server.handshake({}, '/admin/two')).status).toBe(429);
    await server.open('/free');
    await server.open('/free');
  });

  it('of one guard in two parts holds for both together', async () => {
    const server = await app('one guard in two parts');
    await server.open('/admin');
    expect((await server.handshake({}, '/chat')).status).toBe(429);
    await server.open('/free');
  });

  it('local guards routes of the plugin itself only', async () => {
    const server = await app('a local guard');
    await server.open('/own');
    expect((await server.handshake({}, '/own')).status).toBe(429);
    for (const path of ['/parent', '/parent', '/free', '/free']) await server.open(path);
  });

  it('closes sockets of its part that nothing could judge, and leaves others alone', async () => {
    const server = await startAlone([BUN, APPS], { kind: 'a scoped guard that comes late' });
    await server.tells('loaded');
    expect(await closeCode(await server.open('/admin/one'))).toBe(1008);
    expect(await ask(await server.open('/free'), 'in')).toBe('in');
    expect(await server.get('/opened')).toBe('1');
  });

  it('judges the sockets of a route that its part has registered before it', async () => {
    const server = await app('a scoped guard behind its route');
    expect(await ask(await server.open('/admin'), 'in')).toBe('in');
    expect(await closeCode(await server.open('/admin'))).toBe(1008);
    for (let i = 0; i < 3; i++) await server.open('/free');
  });

  it('counts the requests of its part in the metrics', async () => {
    const server = await app('metrics of a part');
    await server.get('/in/1');
    await server.get('/out');
    await expect.poll(() => server.get('/requests')).toBe('/in/:id');
  });

  it('other than global refuses options that hold for requests of the whole server', () => {
    const errorOf = (options: object): unknown => {
      try {
        return checkedScoping(options);
      } catch (error) {
        const { code, field, message } = error as PortcullisError;
        return [code, field, /absent with scoping '\w+'/.exec(message)?.[0]];
      }
    };
    for (const scoping of ['scoped', 'local']) {
      const absent = `absent with scoping '${scoping}'`;
      expect(errorOf({ scoping, requests: {} })).toEqual([
        'ERR_INVALID_ARG_TYPE',
        'requests',
        absent,
      ]);
      for (const http of [true, ['/x']])
        expect(errorOf({ scoping, auth: { http } })).toEqual([
          'ERR_INVALID_ARG_TYPE',
          'auth.http',
          absent,
        ]);
      for (const http of [undefined, false, []])
        expect(errorOf({ scoping, auth: { http } })).toBe(scoping);
    }
    expect(errorOf({ auth: { http: true }, requests: {} })).toBe('global');
  });
});

describe.each(['http', 'close'] as const)('limits of a route, refused with %s', (refuseWith) => {
  const serve = (options: object = {}): Promise<Server> =>
    app('routes with limits', { limits: { maxClosingPerIp: 10 }, refuseWith, ...options });
  /** Returns the status or the close code that refuses the next client. */
  const refusal = async (server: Server, path: string): Promise<number> =>
    refuseWith === 'http'
      ? (await server.handshake({}, path)).status
      : closeCode(await server.open(path));
  const code = (status: number): number => (refuseWith === 'http' ? status : 1013);

  it('stand on top of the guard, and come back however a connection ends', async () => {
    const server = await serve();
    for (const end of ['close', 'terminate'] as const) {
      const client = await server.open('/one');
      expect(await ask(client, 'in')).toBe('in');
      expect(await refusal(server, '/one')).toBe(code(503));
      // A refusal of the route gives the seat of the guard back.
      await expect.poll(() => server.get('/total')).toBe('1');
      client[end]();
      await expect.poll(() => server.get('/total')).toBe('0');
    }
    expect(await ask(await server.open('/one'), 'in')).toBe('in');
  });

  it('come back after handshakes that fail, handlers that throw and routes that refuse', async () => {
    const server = await serve();
    for (let i = 0; i < 3; i++) {
      expect([400, 405, 426]).toContain(
        (await server.handshake({ 'Sec-WebSocket-Key': 'short' }, '/one')).status,
      );
      expect((await server.handshake({}, '/closed')).status).toBe(403);
      (await server.open('/throws')).terminate();
      await expect.poll(() => server.get('/total')).toBe('0');
    }
    expect(await ask(await server.open('/one'), 'in')).toBe('in');
  });

  it('count the connects of each address', async () => {
    const server = await serve({ trustedProxies: ['127.0.0.1'] });
    for (let i = 0; i < 2; i++) await server.open('/slow');
    expect(await refusal(server, '/slow')).toBe(code(429));
    await server.open('/slow', { 'X-Forwarded-For': '192.0.2.1' });
    await server.open('/one');
  });

  it('end with the guard', async () => {
    const server = await serve();
    const client = await server.open('/one');
    const closed = closeCode(client);
    await server.get('/close');
    expect(await closed).toBe(1001);
  });
});

describe('routes', () => {
  it('bring the guard along where it is out of scope', async () => {
    const server = await app('a route beyond the scope', { limits: { maxConnectionsPerIp: 2 } });
    await server.open('/out');
    expect((await server.handshake({}, '/out')).status).toBe(503);
    await server.open('/in');
    expect((await server.handshake({}, '/in')).status).toBe(429);
  });

  it('know connection and user, after identify and before the socket opens', async () => {
    const server = await app('routes with limits', { limits: {}, whoAmI: true });
    const own = await server.open('/who', { 'X-User': 'ann' });
    expect(JSON.parse(await ask(own, ''))).toEqual(['ann', true, '127.0.0.1']);
    expect(JSON.parse(await ask(await server.open('/who'), ''))).toEqual([null, true, '127.0.0.1']);
    expect((await server.handshake({ 'X-User': 'bob' }, '/upgrade')).headers).toMatch(
      /x-user: bob/,
    );
  });

  it('with requireToken refuse requests without a valid token', async () => {
    const server = await app('routes with tokens', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const url = `http://127.0.0.1:${server.port}/secret`;
    const good = { Authorization: `Bearer ${token({ sub: 'ann' })}` };
    for (const method of ['GET', 'POST']) {
      const refused = await fetch(url, { method });
      expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
      expect(await refused.json()).toMatchObject({ code: 'ERR_TOKEN_REQUIRED' });
      const wrong = await fetch(url, { method, headers: { Authorization: 'Bearer x.y.z' } });
      expect(wrong.status).toBe(401);
      expect(await (await fetch(url, { method, headers: good })).text()).toBe('secret of ann');
    }
    expect(await server.get('/free')).toBe('free for undefined');
    expect((await server.handshake({}, '/ws')).status).toBe(401);
    expect(await ask(await server.open('/ws', good), '')).toBe('ann');
    expect(JSON.parse(await server.get('/denials'))).toMatchObject({ ERR_TOKEN_REQUIRED: 3 });
  });

  it('with a rate count a refusal by it towards a ban, where refusals by rates count', async () => {
    const server = await app('rated routes', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } } },
      // Loopback is never banned: the clients come through a proxy.
      trustedProxies: ['127.0.0.1', '::1'],
      banAfter: { failures: 2, countRateRefusals: true },
    });
    const from = async (ip: string): Promise<string> => {
      const response = await fetch(`http://127.0.0.1:${server.port}/address`, {
        headers: { 'x-forwarded-for': ip },
      });
      const text = await response.text();
      return response.ok ? text : (JSON.parse(text) as { code: string }).code;
    };
    const answers: string[] = [];
    for (let at = 0; at < 5; at++) answers.push(await from('192.0.2.1'));
    expect(answers).toEqual([
      'by address',
      'route_request_rate',
      'route_request_rate',
      'banned',
      'banned',
    ]);
    expect(await from('192.0.2.2')).toBe('by address');
  });

  it('with a rate are in the metrics and on the page by name, or by the route', async () => {
    const server = await app('limiters of routes');
    const url = `http://127.0.0.1:${server.port}`;
    for (const path of ['/users/1', '/users/2', '/named', '/first', '/second', '/second'])
      await fetch(url + path);
    const text = await server.get('/metrics');
    const refused = text.matchAll(
      /^portcullis_limiter_costs_total\{limiter="(.*)",outcome="refused"\} (\d+)$/gm,
    );
    expect(Object.fromEntries([...refused].map(([, limiter, count]) => [limiter, count]))).toEqual({
      'GET /users/:id': '1',
      exports: '0',
      // Elysia asks for the option of a group once for each route: each has a limit of its own.
      'GET /first': '0',
      'GET /second': '1',
    });
    const snapshot = JSON.parse(await server.get('/page/snapshot')) as PageSnapshot;
    expect(snapshot.limiters?.refusedKeys?.map(({ key, limiter }) => [key, limiter])).toEqual([
      ['127.0.0.0/24', 'GET /users/:id'],
      ['127.0.0.0/24', 'GET /second'],
    ]);
  });

  it('with a rate refuse requests over it, by address or by user, and list it in the header fields', async () => {
    const server = await app('rated routes', {
      limits: {},
      requests: { rate: { perIp: { limit: 100, windowMs: 60_000 } } },
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const url = `http://127.0.0.1:${server.port}`;
    const first = await fetch(`${url}/address`);
    expect([await first.text(), first.headers.get('ratelimit-policy')]).toEqual([
      'by address',
      '"ip:GET /address";q=1;w=60, "ip";q=100;w=60',
    ]);
    const refused = await fetch(`${url}/address`);
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([429, '60']);
    expect(await refused.json()).toMatchObject({
      code: 'route_request_rate',
      'violated-policies': ['ip:GET /address'],
    });
    const as = (sub: string): Promise<Response> =>
      fetch(`${url}/user`, { headers: { Authorization: `Bearer ${token({ sub })}` } });
    expect(await (await as('ann')).text()).toBe('by user ann');
    const again = await as('ann');
    expect([again.status, await again.json()]).toMatchObject([
      429,
      { code: 'user_request_rate', 'violated-policies': ['user:GET /user'] },
    ]);
    expect(await (await as('bob')).text()).toBe('by user bob');
    // A request without a token spends nothing of anybody's rate.
    expect((await fetch(`${url}/user`)).status).toBe(401);
    expect((await fetch(`${url}/free`)).status).toBe(200);
  });

  it('with a rate by user count the user of the token, whatever user the application has', async () => {
    const server = await app('a rated route in an app with users of its own', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const bearer = (sub: string): Record<string, string> => ({
      Authorization: `Bearer ${token({ sub })}`,
    });
    const asked = async (path: string, sub: string): Promise<unknown[]> => {
      const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
        headers: bearer(sub),
      });
      return [answer.status, answer.status === 200 ? await answer.text() : undefined];
    };
    // A decorated user that is no text, and a derived one that the client chooses.
    expect(await asked('/user', 'ann')).toEqual([200, '{"id":1}']);
    expect(await asked('/user', 'ann')).toEqual([429, undefined]);
    expect(await asked('/user?as=cid', 'ann')).toEqual([429, undefined]);
    expect(await asked('/user?as=ann', 'bob')).toEqual([200, 'ann']);
    expect(await asked('/user?as=dan', 'bob')).toEqual([429, undefined]);
    // A request that asks for a WebSocket and gets a response.
    const statuses: number[] = [];
    for (const as of ['x', 'y'])
      statuses.push((await server.handshake(bearer('eve'), `/user?as=${as}`)).status);
    expect(statuses).toEqual([200, 429]);
  });

  it.each(['global', 'scoped'])(
    'count a client that leaves before their hook by its address: %s',
    async (scoping) => {
      const server = await app('routes behind a hook that waits', {
        limits: {},
        scoping,
        auth: { policy: { keys: { secret: SECRET } } },
        trustedProxies: ['127.0.0.1'],
        banAfter: { failures: 1 },
      });
      /** Sends a request, and leaves while a hook of the application waits. */
      const leave = async (path: string, ip: string, lines = ''): Promise<void> => {
        const before = Number(await server.get('/left'));
        const head = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: ${ip}\r\n${lines}\r\n`;
        const { socket } = server.raw(head);
        await until(async () => (await server.get('/waiting')) === '1');
        socket.resetAndDestroy();
        await until(async () => Number(await server.get('/left')) > before);
        await server.get('/go');
      };
      await leave('/slow/rated', '198.51.100.1');
      const again = fetch(`http://127.0.0.1:${server.port}/slow/rated`, {
        headers: { 'X-Forwarded-For': '198.51.100.1' },
      });
      await until(async () => (await server.get('/waiting')) === '1');
      await server.get('/go');
      expect((await again).status).toBe(429);
      const wrong = 'Authorization: Bearer a.b.c\r\n';
      await leave('/slow/secret', '198.51.100.2', wrong);
      const asks =
        'Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n';
      await leave('/slow/ws', '198.51.100.3', `${asks}${wrong}`);
      await until(async () => (await server.get('/banned')).includes('198.51.100.3'));
      expect(JSON.parse(await server.get('/banned'))).toEqual(['198.51.100.3', '198.51.100.2']);
    },
  );

  it('refuse tokens without their scopes and roles, at requests and handshakes', async () => {
    for (const refuseWith of ['http', 'close'] as const) {
      const server = await app('routes with tokens', {
        limits: {},
        auth: { policy: { keys: { secret: SECRET } } },
        refuseWith,
      });
      const bearer = (claims: object): Record<string, string> => ({
        Authorization: `Bearer ${token(claims)}`,
      });
      const scoped = async (claims: object): Promise<unknown[]> => {
        const url = `http://127.0.0.1:${server.port}/scoped`;
        const answer = await fetch(url, { headers: bearer(claims) });
        const { status, headers } = answer;
        const challenge = headers.get('www-authenticate')?.split(',')[0];
        return [status, status === 200 ? await answer.text() : challenge];
      };
      expect(await scoped({ scope: 'chat:read' })).toEqual([200, 'scoped for ann: chat:read']);
      expect(await scoped({ scope: 'chat' })).toEqual([403, 'Bearer error="insufficient_scope"']);
      const client = await server.open('/scoped/ws', bearer({ roles: ['admin', 'x'] }));
      expect(await ask(client, '')).toBe('admin,x');
      if (refuseWith === 'http')
        expect((await server.handshake(bearer({ roles: ['x'] }), '/scoped/ws')).status).toBe(403);
      else expect(await closeCode(await server.open('/scoped/ws', bearer({})))).toBe(1008);
      client.terminate();
    }
  });

  it.each(['local', 'remote'])(
    'with requireToken answer 500 if the verifier itself fails, and report its error: %s keys',
    async (name) => {
      const server = await app('routes with a verifier that fails', {
        name,
        limits: {},
        auth: { policy: { keys: { secret: SECRET } } },
      });
      const answer = await fetch(`http://127.0.0.1:${server.port}/secret`);
      expect([answer.status, await answer.json()]).toEqual([
        500,
        expect.objectContaining({ code: 'identify_failed' }),
      ]);
      expect((await server.handshake({}, '/ws')).status).toBe(500);
      expect(JSON.parse(await server.get('/errors'))).toEqual([
        'a secret 127.0.0.1',
        'a secret 127.0.0.1',
        { identify_failed: 2 },
      ]);
    },
  );

  it('refuse wrong options where they are registered', async () => {
    const server = await app('wrong routes');
    expect(JSON.parse(await server.get('/seen'))).toEqual([
      ['ERR_UNKNOWN_OPTION', 'portcullis.maxConnection'],
      ['ERR_OUT_OF_RANGE', 'portcullis.maxConnections'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.maxConnections'],
      ['ERR_OUT_OF_RANGE', 'portcullis.connectRate.limit'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.connectRate'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.requireToken'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.requireToken'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.scope'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.roles[0]'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis'],
      'nothing',
      ['ERR_OUT_OF_RANGE', 'portcullis.rate.limit'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis.rate.by'],
      ['ERR_INVALID_ARG_TYPE', 'portcullis'],
    ]);
  });
});

describe('a route that upgrades by hand', () => {
  it.each(['shared', 'frozen', 'class', 'text', 'nothing'])(
    'gives the seats of its sockets back, and leaves the data as it was: %s',
    async (data) => {
      const server = await app('routes that upgrade by hand', {
        limits: { maxConnectionsPerIp: 5 },
        whoAmI: 'header',
      });
      for (const path of [`/hand/${data}`, `/hand/${data}`]) {
        const clients = await Promise.all(
          ['ann', 'bob', 'cay'].map((name) => server.open(path, { 'X-User': name })),
        );
        await server.becomes(3);
        expect(new Set(JSON.parse(await server.get('/ids'))).size).toBe(3);
        if (data !== 'text' && data !== 'nothing')
          expect(await Promise.all(clients.map((client) => ask(client, 'hello')))).toEqual([
            'hello of ann in lobby',
            'hello of bob in lobby',
            'hello of cay in lobby',
          ]);
        for (const client of clients) client.close();
        await server.becomes(0);
      }
      expect(await server.get('/same')).toBe('true');
    },
  );

  it('gives its sockets their ids, each once, where it makes data for each', async () => {
    const server = await app('routes that upgrade by hand', { limits: {} });
    const named = await server.open('/hand/named');
    await server.becomes(1);
    expect(await server.get('/ids')).toBe('["mine"]');
    // `onDuplicateId` is `reject`.
    expect(await closeCode(await server.open('/hand/named'))).toBe(1013);
    const numbered = await server.open('/hand/numbered');
    await server.becomes(2);
    expect(JSON.parse(await server.get('/ids'))).toEqual([
      'mine',
      expect.stringMatching(/^[\da-f-]{36}$/),
    ]);
    for (const client of [named, numbered]) client.close();
    await server.becomes(0);
  });

  it.each(['shared', 'frozen'])(
    'and is judged when it upgrades, does so, too: %s',
    async (data) => {
      const server = await app('routes that upgrade by hand', {
        limits: { maxConnectionsPerIp: 2 },
      });
      const clients = [await server.open(`/late/${data}`), await server.open(`/late/${data}`)];
      expect(await closeCode(await server.open(`/late/${data}`))).toBe(1008);
      expect(await ask(clients[0]!, 'hello')).toBe('hello of undefined in lobby');
      for (const client of clients) client.close();
      await server.becomes(0);
      expect(await server.get('/same')).toBe('true');
    },
  );

  it('has no seat when its upgrade throws', async () => {
    const server = await app('routes that upgrade by hand', { limits: {} });
    expect((await server.handshake({}, '/bad')).body).toContain('0 after the error');
    expect(await server.total()).toBe(0);
  });
});

describe('a socket in an unusual way', () => {
  const held = (server: Server, expected: string) =>
    until(async () => (await server.get('/held')) === expected);

  it('has one seat, and gives it back, if it opened before the hook of the guard', async () => {
    const server = await app('sockets in unusual ways', { limits: {} });
    const client = await server.open('/early');
    expect(await server.get('/held')).toBe('1');
    client.close();
    await held(server, '0');
  });

  it('spends the rate of its address, though it opened before any hook of the guard', async () => {
    const server = await app('a rated route whose socket opens before its hooks', { limits: {} });
    for (let i = 0; i < 2; i++) await server.open();
    await server.becomes(2);
    // The same address, without a socket.
    expect((await fetch(`http://127.0.0.1:${server.port}/ws`)).status).toBe(429);
  });

  it('gives the seat back of a handshake that was answered by its timeout', async () => {
    const server = await app('sockets in unusual ways', { limits: {} });
    expect((await server.handshake({}, '/never')).status).toBe(503);
    await held(server, '0');
  });

  it('opens another one as it opens, and both have seats and handlers of their own', async () => {
    const server = await app('a socket that opens another one', { limits: {} });
    const waiting = server.open('/waiting');
    await held(server, '1,1');
    const [other, client] = await Promise.all([waiting, server.open('/ws?as=opener')]);
    await held(server, '2,2');
    expect(await ask(client, 'hello')).toBe('hello on a route, 0 keys on its data');
    expect(await ask(other, 'hello')).toBe('hello of undefined in lobby');
    client.close();
    await held(server, '1,1');
    other.close();
    await held(server, '0,0');
  });

  it('opens another one as it makes room for a third, and both have seats in both guards', async () => {
    const server = await app('a socket that opens another one', { limits: {} });
    const ended = closeCode(await server.open('/ws?as=closer&user=ann'));
    const waiting = server.open('/waiting');
    await held(server, '2,2');
    const [other, client] = await Promise.all([waiting, server.open('/ws?user=ann')]);
    expect(await ended).toBe(4001);
    await held(server, '2,2');
    expect(await ask(client, 'hello')).toBe('hello on a route, 0 keys on its data');
    expect(await ask(other, 'hello')).toBe('hello of undefined in lobby');
    client.close();
    other.close();
    await held(server, '0,0');
  });

  it.each(['first', 'second'])(
    'leaves no seat in the other one of two guards: refused by the %s',
    async (first) => {
      const server = await app('two guards, of which one refuses by close', { limits: {}, first });
      // A server without any seat ends refused sockets at once.
      for (let round = 0; round < 3; round++)
        expect(await closeCode(await server.open())).toBe(1006);
      await held(server, '0,0');
    },
  );
});

describe('a document of OpenAPI', () => {
  type Operation = { responses?: Record<string, { content?: unknown }>; summary?: string };
  const pathsOf = async (server: Server): Promise<Record<string, Record<string, Operation>>> =>
    (
      JSON.parse(await server.get('/docs/json')) as {
        paths: Record<string, Record<string, Operation>>;
      }
    ).paths;
  const statuses = (operation: Operation | undefined): string[] =>
    Object.keys(operation?.responses ?? {}).toSorted();

  it('describes the answers of the guard, and neither the page nor hidden routes', async () => {
    const server = await app('a described server', {
      limits: {},
      requests: { maxConcurrent: 100 },
      auth: { policy: { keys: { secret: SECRET } } },
    });
    const paths = await pathsOf(server);
    expect(Object.keys(paths).toSorted()).toEqual([
      '/both',
      '/opened',
      '/plain',
      '/secret',
      '/typed',
      '/ws',
    ]);
    expect(statuses(paths['/plain']?.['get'])).toEqual(['429', '503']);
    expect(statuses(paths['/typed']?.['post'])).toEqual(['200', '413', '429', '503']);
    expect(statuses(paths['/secret']?.['get'])).toEqual(['401', '429', '503']);
    expect(statuses(paths['/ws']?.['ws'])).toEqual(['401', '403', '429', '503']);
    // The application's own descriptions stay.
    expect(statuses(paths['/both']?.['post'])).toEqual(['200', '413', '429', '503']);
    expect(JSON.stringify(paths['/both']?.['post'])).toMatch(
      /"own".*"summary":"kept"|"summary":"kept".*"own"/,
    );
    expect(JSON.stringify(paths['/typed']?.['post']?.responses?.['429'])).toContain('retryAfterMs');
    // A described schema judges nothing.
    expect(
      await (await fetch(`http://127.0.0.1:${server.port}/typed`, { method: 'POST' })).text(),
    ).toBe('typed');
  });

  it('describes the routes in scope only', async () => {
    const paths = await pathsOf(await app('a described part'));
    expect(statuses(paths['/in']?.['ws'])).toEqual(['403', '429', '503']);
    expect(statuses(paths['/out']?.['ws'])).toEqual([]);
    expect(statuses(paths['/plain']?.['get'])).toEqual([]);
  });
});

describe('refusals', () => {
  const LIMITS = {
    limits: { maxConnectionsPerIp: 1 },
    requests: { maxPayloadSize: 4, timeoutMs: 50 },
  };
  const post = (server: Server, path = '/post', body = 'too long'): Promise<Response> =>
    fetch(`http://127.0.0.1:${server.port}${path}`, {
      method: 'POST',
      body,
      headers: { Origin: 'https://app.example', 'Content-Type': 'text/plain' },
    });
  const get = (server: Server, path: string): Promise<Response> =>
    fetch(`http://127.0.0.1:${server.port}${path}`, { headers: { Origin: 'https://app.example' } });

  it.each(['cors', 'guard'])('have the headers of CORS with the %s first', async (first) => {
    const server = await app('an app with CORS', { first, ...LIMITS });
    const allowed = (answer: Response): string | null =>
      answer.headers.get('access-control-allow-origin');
    const large = await post(server);
    expect([large.status, allowed(large)]).toEqual([413, 'https://app.example']);
    expect(await large.json()).toEqual({ code: 'payload_too_large', message: 'Payload too large' });
    // The handler runs still when its time is over.
    const late = await get(server, '/slow');
    expect([late.status, allowed(late), late.headers.get('retry-after')]).toEqual([
      503,
      'https://app.example',
      expect.any(String),
    ]);
    expect(await late.json()).toMatchObject({ code: 'handler_timeout' });
    const fine = await post(server, '/post', 'good');
    expect([fine.status, allowed(fine), await fine.text()]).toEqual([
      200,
      'https://app.example',
      'good',
    ]);
    await server.open();
    const refused = await server.handshake({ Origin: 'https://app.example' });
    expect(refused.status).toBe(429);
    expect(refused.headers).toContain('access-control-allow-origin: https://app.example');
    const foreign = await fetch(`http://127.0.0.1:${server.port}/post`, {
      method: 'POST',
      body: 'too long',
      headers: { Origin: 'https://evil.example' },
    });
    expect([foreign.status, allowed(foreign)]).toEqual([413, null]);
  });

  it.each(['cors', 'guard'])(
    'answer preflights of a full server, with the %s first',
    async (first) => {
      const server = await app('an app with CORS', {
        first,
        limits: {},
        requests: { maxConcurrent: 0 },
      });
      const preflight = await fetch(`http://127.0.0.1:${server.port}/post`, {
        method: 'OPTIONS',
        headers: { Origin: 'https://app.example', 'Access-Control-Request-Method': 'POST' },
      });
      expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([
        204,
        'https://app.example',
      ]);
      expect((await post(server)).status).toBe(503);
    },
  );

  it('pass the hooks of onError, which may shape them', async () => {
    const server = await app('an app with onError', { first: 'shapes', ...LIMITS });
    const large = await post(server);
    expect([large.status, large.headers.get('x-code'), await large.json()]).toEqual([
      413,
      '413',
      { shaped: 'payload_too_large' },
    ]);
    const late = await get(server, '/slow');
    expect([late.status, await late.json()]).toEqual([503, { shaped: 'handler_timeout' }]);
    await server.open();
    const refused = await server.handshake();
    expect([refused.status, JSON.parse(refused.body)]).toEqual([429, { shaped: 'ip_limit' }]);
    expect(refused.headers).toMatch(/retry-after: \d/);
  });

  it.each(['json', 'problem'])(
    'in the format %s have the media type of the body that onError returns',
    async (refusalFormat) => {
      const standard = refusalFormat === 'json' ? 'application/json' : 'application/problem+json';
      const rate = { limit: 1, windowMs: 60_000 };
      const hooks: [string, (context: { error: unknown }) => unknown, string | null][] = [
        ['text', () => 'text', 'text/plain'],
        [
          'own',
          () => new Response('<b>own</b>', { headers: { 'content-type': 'text/html' } }),
          'text/html',
        ],
        ['untyped', () => new Response(new Uint8Array(2)), null],
        [
          'fields',
          ({ error }) => ({ ...(error as { response: object }).response }),
          'application/json',
        ],
        ['nothing', () => undefined, standard],
        ['the error', ({ error }) => (error as { response: unknown }).response, standard],
      ];
      for (const [kind, hook, type] of hooks) {
        const guard = portcullis({
          limits: {},
          requests: { rate: { perRoute: { '/guard': rate } } },
          refusalFormat: refusalFormat as 'json',
        });
        const app = new Elysia()
          .use(guard)
          .onError(hook)
          .get('/guard', () => 'hello')
          .get('/route', () => 'hello', { portcullis: { rate } });
        for (const path of ['/guard', '/route']) {
          const url = `http://localhost${path}`;
          await app.handle(new Request(url));
          const { headers } = await app.handle(new Request(url));
          expect([kind, path, headers.get('content-type')?.split(';')[0] ?? null]).toEqual([
            kind,
            path,
            type,
          ]);
          expect(headers.get('retry-after')).toBe('60');
        }
        guard.decorator.portcullis.close();
      }
    },
  );

  it('stay as they are behind hooks of onError that return nothing', async () => {
    const server = await app('an app with onError', { first: 'silent', ...LIMITS });
    const large = await post(server);
    expect([large.status, large.headers.get('content-type')]).toEqual([413, 'application/json']);
    expect(await large.json()).toEqual({ code: 'payload_too_large', message: 'Payload too large' });
    await server.open();
    const refused = await server.handshake();
    expect(JSON.parse(refused.body)).toMatchObject({
      code: 'ip_limit',
      retryAfterMs: expect.any(Number),
    });
  });

  it.each(['mapResponse', 'onAfterHandle'])(
    'keep status, headers and body behind a hook of %s that answers in their place',
    async (first) => {
      const server = await app('an app whose hooks answer', {
        first,
        limits: {},
        auth: { policy: { keys: { secret: SECRET } } },
      });
      const unknown = await get(server, '/token');
      expect([unknown.status, unknown.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
      expect(await unknown.json()).toMatchObject({ code: 'ERR_TOKEN_REQUIRED' });
      expect(await (await get(server, '/rate')).json()).toBe('in');
      const often = await get(server, '/rate');
      expect([often.status, often.headers.get('retry-after')]).toEqual([429, '60']);
      expect(await often.json()).toMatchObject({ code: 'route_request_rate' });
      const { status, headers } = await server.handshake();
      expect(status).toBe(401);
      expect(headers).toContain('www-authenticate: bearer');
    },
  );

  it('are what onRefused returns, and the standard ones where it fails', async () => {
    const server = await app('an app that shapes', LIMITS);
    const own = await post(server);
    expect([own.status, own.headers.get('content-type'), own.headers.get('x-was')]).toEqual([
      420,
      'text/plain',
      '413',
    ]);
    expect(await own.text()).toBe('café: payload_too_large');
    await server.open();
    const refused = await server.handshake({}, '/ws?plain');
    expect([refused.status, refused.body]).toEqual([420, 'cafe: ip_limit']);
    for (const query of ['throw', 'async', 'response', 'status', 'header', 'none']) {
      const standard = await post(server, `/post?${query}`);
      expect([query, standard.status, await standard.text()]).toEqual([
        query,
        413,
        '{"code":"payload_too_large","message":"Payload too large"}',
      ]);
      expect(standard.headers.get('x-c')).toBeNull();
    }
  });
});

/** A request by hand, and the status of its answer. */
async function statusOf(server: Server, request: string): Promise<number> {
  const { socket, seen } = server.raw(request);
  await expect.poll(seen).toContain('\r\n\r\n');
  socket.destroy();
  return Number(seen().split(' ')[1]);
}

const UPGRADE = 'Upgrade: websocket\r\n';
const HANDSHAKE = `${UPGRADE}Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n`;
const get = (path: string, lines = '', host = '127.0.0.1'): string =>
  `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n${lines}\r\n`;

describe('a request that asks for a WebSocket, or whose path is read in two ways', () => {
  const guarded = (options: object, http: unknown = true): Promise<Server> =>
    app('routes before and behind a guard with tokens', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } }, http },
      ...options,
    });

  it.each(['http', 'close'])(
    'runs no handler without a token: refused by %s',
    async (refuseWith) => {
      const server = await guarded({ refuseWith });
      for (const path of ['/before', '/after', '/token', '/x/deep'])
        for (const lines of ['', UPGRADE, HANDSHAKE]) {
          const status = await statusOf(server, get(path, lines));
          expect([path, lines, [101, 400, 401].includes(status)]).toEqual([path, lines, true]);
          expect(status === 101 && (refuseWith === 'http' || lines !== HANDSHAKE)).toBe(false);
        }
      const client = await server.open('/ws', { authorization: `Bearer ${token()}` });
      expect(await ask(client, 'in')).toBe('in');
    },
  );

  it('verifies a token once: `replay` takes it of a handshake behind routes without a hook', async () => {
    const server = await app('routes before and behind a guard with tokens', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET }, replay: { maxEntries: 10 } }, http: true },
    });
    for (const path of ['/ws', '/early']) {
      const headers = { authorization: `Bearer ${token({ jti: path })}` };
      expect(await ask(await server.open(path, headers), 'in')).toBe('in');
      expect((await server.handshake(headers, path)).status).toBe(401);
    }
  });

  it.each([
    ['/x/deep', '/x/deep', '127.0.0.1'],
    ['/after', '/xx/after', 'a'],
    ['/after', '/x/after', 'ab'],
    ['/after', '/aaaaaaaaaa/after', 'a b'],
    ['/after', '/healthz?ab/after', 'a b'],
    ['/after', '/healthz?a/after', 'a'],
  ])('needs a token for %s, asked as %s of the host %s', async (path, asked, host) => {
    const server = await guarded({ exemptPaths: ['/healthz'] }, [path]);
    expect(await statusOf(server, get(asked, '', host))).not.toBe(200);
    const all = await guarded({ exemptPaths: ['/healthz'] });
    expect(await statusOf(all, get(asked, '', host))).not.toBe(200);
  });

  it('spends the rate of the route that the router serves, and the rate of a route by a handshake', async () => {
    const requests = { rate: { perRoute: { 'GET /after': { limit: 2, windowMs: 60_000 } } } };
    const rated = await guarded({ requests }, ['/nothing']);
    const authorization = `Authorization: Bearer ${token()}\r\n`;
    const statuses: number[] = [];
    for (let i = 0; i < 4; i++)
      statuses.push(await statusOf(rated, get('/xx/after', authorization, 'a')));
    expect(statuses).toEqual([200, 200, 429, 429]);
    for (const lines of [UPGRADE, HANDSHAKE]) {
      const all: number[] = [];
      for (let i = 0; i < 4; i++)
        all.push(await statusOf(rated, get('/rated', lines + authorization)));
      expect(all.filter((status) => status === 200).length).toBeLessThanOrEqual(2);
    }
  });

  it('is judged on an early route of a part, however the path is written', async () => {
    const server = await app('early routes of a part');
    for (const path of ['/part', '/part/', '/part/plain', '/part/opt', '/part/opt/1'])
      for (const host of ['127.0.0.1', 'a']) {
        const asked = host === 'a' ? `/xx${path}` : path;
        await statusOf(server, get(asked, HANDSHAKE, host));
      }
    for (const path of ['/part/caf%C3%A9', '/part/v2', '/part/all/x/y'])
      await statusOf(server, get(path, HANDSHAKE));
    expect(await server.get('/opened')).toBe('0');
    for (const path of ['/other', '/other/1']) await server.open(path);
    expect(await server.get('/opened')).toBe('2');
  });
});

describe('other ways to a server', () => {
  const LIMITS = { limits: { maxConnectionsPerIp: 1 }, requests: { maxPayloadSize: 4 } };
  const host = (kind: string): Promise<Server> =>
    start(['node_modules/.bin/bun', '__test__/servers/elysia-hosts.ts'], { kind, ...LIMITS });
  const post = async (port: number, path = '/post'): Promise<number> =>
    (
      await fetch(`http://127.0.0.1:${port}${path}`, {
        method: 'POST',
        body: 'too long',
        headers: { 'Content-Type': 'text/plain' },
      })
    ).status;

  it('Bun.serve with app.fetch guards requests; Elysia refuses WebSockets there, and no seat leaks', async () => {
    const server = await host('Bun.serve with websocket');
    for (let i = 0; i < 5; i++) expect((await server.handshake()).status).toBe(400);
    expect([await post(server.port), await server.total()]).toEqual([413, 0]);
  });

  it.each(['Bun.serve with websocket', 'a mounted app'])(
    '%s: auth.http holds for a request that asks for a WebSocket',
    async (kind) => {
      const server = await start(['node_modules/.bin/bun', '__test__/servers/elysia-hosts.ts'], {
        kind,
        limits: {},
        auth: { policy: { keys: { secret: SECRET } }, http: true },
      });
      const path = kind === 'a mounted app' ? '/api/stats' : '/stats';
      for (const lines of ['', UPGRADE, HANDSHAKE])
        expect(await statusOf(server, get(path, lines))).toBe(401);
    },
  );

  it('a mounted app guards its requests; Elysia refuses WebSockets there, and no seat leaks', async () => {
    const server = await host('a mounted app');
    for (let i = 0; i < 3; i++)
      expect((await server.handshake({}, '/api/ws')).status).toBeGreaterThanOrEqual(400);
    expect(await post(server.port, '/api/post')).toBe(413);
    expect(JSON.parse(await server.get('/api/stats'))).toMatchObject({ totalConnections: 0 });
  });

  it('a guard holds for an app that is mounted beside its routes', async () => {
    const server = await host('a guard around a mounted app');
    expect(await server.get('/api')).toBe('mounted');
    expect(await post(server.port, '/api')).toBe(413);
    await server.open();
    expect((await server.handshake()).status).toBe(429);
  });

  it('a default export guards requests; Elysia refuses WebSockets there, and no seat leaks', async () => {
    const server = await start(
      ['node_modules/.bin/bun', '__test__/servers/elysia-export.ts'],
      LIMITS,
    );
    for (let i = 0; i < 3; i++) expect((await server.handshake()).status).toBe(400);
    expect([await post(server.port), await server.total()]).toEqual([413, 0]);
  });

  it('listen twice guards both servers by one count', async () => {
    const server = await host('listen twice');
    const client = await server.open();
    expect((await server.handshake()).status).toBe(429);
    expect(await post(server.port)).toBe(413);
    client.close();
    await server.becomes(0);
    expect(await ask(await server.open(), 'hello')).toBe('hello');
  });
});

describe('a refused handshake', () => {
  it('that cannot be completed gets its status, though the guard refuses by close code', async () => {
    const options = { limits: { maxTotalConnections: 0 }, refuseWith: 'close' };
    const server = await app('a plain route', options);
    const { status, body } = await server.handshake({ 'Sec-WebSocket-Key': 'short' });
    expect([status, JSON.parse(body)]).toMatchObject([503, { code: 'total_limit' }]);
    // One that can be completed opens a socket, which is closed.
    expect((await server.handshake()).status).toBe(101);
    const stats = JSON.parse(await server.get('/stats')) as { refused: object };
    expect(stats.refused).toEqual({ total_limit: 2 });
  });

  it('is answered alike on every route, and passes the hooks of its route', async () => {
    const server = await app('routes with hooks, and one without');
    await server.open('/plain');
    // The time of a retry varies, and the length with it.
    const answerOf = async (path: string) => {
      const { status, headers, body } = await server.handshake({}, path);
      return [status, headers.replaceAll(/\d+/g, '0'), body.replaceAll(/\d+/g, '0')];
    };
    const plain = await answerOf('/plain');
    expect(plain).toEqual([429, expect.stringContaining('connection: close'), plain[2]]);
    expect(plain[2]).toMatch(/^\{"code":"ip_limit","message":".+","retryAfterMs":0\}$/);
    for (const path of ['/logged', '/derived', '/both'])
      expect([path, ...(await answerOf(path))]).toEqual([path, ...plain]);
    const mapped = await server.handshake({}, '/mapped');
    expect([mapped.status, mapped.headers]).toEqual([
      429,
      expect.stringContaining('x-mapped: yes'),
    ]);
    // Elysia checks the query before any hook of `beforeHandle`.
    expect((await server.handshake({}, '/checked')).status).toBe(422);
    expect((await server.handshake({}, '/nowhere')).status).toBe(404);
    await expect
      .poll(async () => JSON.parse(await server.get('/seen')) as object)
      .toEqual({ derive: 1, afterResponse: 1, mapResponse: 1 });
    const { refused } = JSON.parse(await server.get('/stats')) as { refused: object };
    expect(refused).toEqual({ ip_limit: 5 });
  });
});
