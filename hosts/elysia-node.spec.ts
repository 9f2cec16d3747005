import { afterEach, describe, expect, it } from 'vitest';
import { ask, cleanUp, closeCode, refusedByCode, startAlone } from '../__test__/servers/start.js';
import { SECRET, token } from '../__test__/fixtures/sign.js';
import { until } from '../__test__/fixtures/until.js';

const COMMAND = ['node', 'hosts/servers/elysia-node-apps.mjs'] as const;
const on = (kind: string, options: object = {}): ReturnType<typeof startAlone> =>
  startAlone(COMMAND, { kind, ...options }, { NODE_OPTIONS: '--expose-gc' });

const WAITING =
  'GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nX-User: waits\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';
/** A masked ping without a payload, and a masked text frame. */
const PING = Buffer.from([0x89, 0x80, 0, 0, 0, 0]);
const ONE = Buffer.from('\u0081\u0083\0\0\0\0one', 'latin1');

describe('elysia on Node: what its adapter hides', () => {
  afterEach(cleanUp);

  it('judges a route that was registered before the plugin when its socket opens', async () => {
    const server = await on('early', { limits: { maxConnectionsPerIp: 1 } });
    const client = await server.open();
    expect(await ask(client, 'hello')).toBe('hello');
    expect(await refusedByCode(server)).toBe(1008);
    expect(await server.total()).toBe(1);
    client.close();
    await server.becomes(0);
    expect(JSON.parse(await server.get('/opened'))).toEqual([1, 1]);
  });

  it.each(['nested', 'group', 'promised'])(
    'guards the app of a plugin that is %s',
    async (kind) => {
      const server = await on(kind, { limits: { maxConnectionsPerIp: 1 } });
      const client = await server.open();
      expect(await ask(client, 'hello')).toBe('hello');
      const { status } = await server.handshake();
      // A plugin that comes later has no hook before the upgrade.
      if (kind === 'promised') expect(await refusedByCode(server)).toBe(1008);
      else expect(status).toBe(429);
      client.terminate();
      await server.becomes(0);
    },
  );

  it.each(['http', 'close'])(
    'serves no request without a token because it asks for a WebSocket: refused by %s',
    async (refuseWith) => {
      const server = await on('tokens', {
        limits: {},
        refuseWith,
        auth: { policy: { keys: { secret: SECRET } }, http: true },
      });
      for (const path of ['/before', '/after', '/token'])
        for (const lines of [{}, { Connection: 'close' }]) {
          const { status } = await server.handshake(lines, path);
          expect([path, lines, status]).toEqual([path, lines, 401]);
        }
      const client = await server.open('/ws', { authorization: `Bearer ${token()}` });
      expect(await ask(client, 'in')).toBe('in');
      if (refuseWith === 'close') expect(await refusedByCode(server)).toBe(1008);
      else expect((await server.handshake()).status).toBe(401);
    },
  );

  it('refuses by close code on a path that has a route of GET, too', async () => {
    const server = await on('both', { limits: { maxConnectionsPerIp: 1 }, refuseWith: 'close' });
    expect(await ask(await server.open(), 'in')).toBe('in');
    for (const path of ['/ws', '/rooms/1']) {
      expect([path, await refusedByCode(server, {}, path)]).toEqual([path, 1008]);
      // Elysia takes the route of GET for any other header, and nobody can open a socket with such a key.
      for (const lines of [{ Upgrade: 'WebSocket' }, { 'Sec-WebSocket-Key': 'short' }]) {
        const { status, body } = await server.handshake(lines, path);
        expect([path, status, body]).toEqual([path, 429, expect.stringContaining('ip_limit')]);
      }
      expect(await server.get(path)).toBe('no socket');
    }
    expect(await server.total()).toBe(1);
  });

  it.each(['json', 'problem'])(
    'keeps the media type of the format %s behind hooks of onError that return nothing',
    async (refusalFormat) => {
      const server = await on('hooked', {
        limits: {},
        refusalFormat,
        auth: { policy: { keys: { secret: SECRET } }, http: ['/opened'] },
      });
      const type = refusalFormat === 'json' ? 'application/json' : 'application/problem+json';
      for (const path of ['/opened', '/token']) {
        const { status, headers } = await fetch(`http://127.0.0.1:${server.port}${path}`);
        expect([path, status, headers.get('content-type')]).toEqual([path, 401, type]);
        expect(headers.get('www-authenticate')).toBe('Bearer');
      }
      expect((await server.handshake()).headers).toContain(`content-type: ${type}`);
    },
  );

  it('keeps the media type of a text of onRefused, too', async () => {
    const server = await on('typed', { limits: {}, requests: { maxConcurrent: 0 } });
    const answer = await fetch(`http://127.0.0.1:${server.port}/opened`);
    expect([answer.status, answer.headers.get('content-type')]).toEqual([503, 'text/html']);
    expect(await answer.text()).toBe('<b>no</b>');
  });

  it('keeps status, headers and body of a refusal behind a hook that answers in its place', async () => {
    const auth = { policy: { keys: { secret: SECRET } } };
    const server = await on('mapped', { limits: {}, auth });
    const answer = await fetch(`http://127.0.0.1:${server.port}/token`);
    expect([answer.status, answer.headers.get('www-authenticate')]).toEqual([401, 'Bearer']);
    expect(await answer.json()).toMatchObject({ code: 'ERR_TOKEN_REQUIRED' });
    const { status, headers } = await server.handshake();
    expect([status, headers]).toEqual([401, expect.stringContaining('www-authenticate: bearer')]);
  });

  it('spends the rates of requests on what only asks for a WebSocket', async () => {
    const server = await on('tokens', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } } },
      requests: { rate: { perIp: { limit: 2, windowMs: 60_000 } } },
    });
    const statuses = [];
    for (let i = 0; i < 4; i++)
      statuses.push((await server.handshake({ Connection: 'close' }, '/after')).status);
    expect(statuses).toEqual([200, 200, 429, 429]);
  });

  it('spends no rate of requests on sockets that open', async () => {
    const server = await on('refusing', {
      limits: {},
      requests: { rate: { perIp: { limit: 2, windowMs: 60_000 } } },
      exemptPaths: ['/guard', '/stats'],
    });
    for (let i = 0; i < 4; i++) expect(await ask(await server.open(), 'hello')).toBe('hello');
    const statuses = [];
    for (let i = 0; i < 3; i++)
      statuses.push((await fetch(`http://127.0.0.1:${server.port}/address`)).status);
    expect(statuses).toEqual([200, 200, 429]);
    // Such handshakes run the route, and open none.
    const malformed = [];
    for (let i = 0; i < 2; i++)
      malformed.push((await server.handshake({ 'Sec-WebSocket-Protocol': 'a, a' })).status);
    expect(malformed).toEqual([429, 429]);
  });

  it('ends the request of a client that has left, though its handler asks for no signal', async () => {
    const server = await on('refusing', { limits: {}, requests: {}, exemptPaths: ['/guard'] });
    const client = new AbortController();
    const asked = fetch(`http://127.0.0.1:${server.port}/sleep`, { signal: client.signal });
    await server.until(({ requests }) => requests?.active === 1);
    client.abort();
    await expect(asked).rejects.toThrow();
    await server.until(({ requests }) => requests?.active === 0);
  });

  it.each(['plain', 'measured'])('leaves answers their Content-Length: %s', async (kind) => {
    const rate = { perIp: { limit: 9, windowMs: 60_000 } };
    const requests = kind === 'plain' ? { rate } : {};
    const server = await on(kind, { limits: {}, requests });
    const { headers } = await fetch(`http://127.0.0.1:${server.port}/release`);
    expect([headers.get('content-length'), headers.get('ratelimit')]).toEqual([
      '8',
      kind === 'plain' ? expect.any(String) : null,
    ]);
  });

  it('leaves clone() of a request as it is', async () => {
    const server = await on('refusing', { limits: {}, requests: {} });
    const answer = await fetch(`http://127.0.0.1:${server.port}/clone`, {
      method: 'POST',
      body: 'a body',
    });
    expect(await answer.text()).toBe('a body, a body, 6');
  });

  it.each(['/form', '/bytes', '/blob', '/again', '/mounted/'])(
    'leaves the body of a request to whoever reads it: %s',
    async (path) => {
      const server = await on('refusing', { limits: {}, requests: {} });
      const form = new FormData();
      form.set('file', new File(['a body'], 'a.txt'));
      const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, {
        method: 'POST',
        ...(path === '/form'
          ? { body: form }
          : { body: 'a body', headers: { 'content-type': 'application/octet-stream' } }),
      });
      expect([answer.status, await answer.text()]).toEqual([200, '6']);
    },
  );

  it('gives the seat of a waiting client back that ends its side, whatever it has sent before', async () => {
    const server = await on('plain', { limits: {}, whoAmI: 'header', identifyTimeoutMs: 600_000 });
    for (const early of [PING, Buffer.alloc(70_000, PING)]) {
      const client = server.raw(WAITING);
      await server.becomes(1);
      client.socket.write(early);
      await server.total();
      client.socket.end();
      await server.becomes(0);
    }
    const client = server.raw(WAITING);
    await server.becomes(1);
    client.socket.write(ONE);
    await server.total();
    await server.get('/release');
    await until(() => /^HTTP\/1\.1 101 [^]*one$/.test(client.seen()));
    client.socket.write(ONE);
    await until(() => client.seen().endsWith('one\u0081\u0003one'));
  });

  it('guards the routes of its scope only', async () => {
    const server = await on('scoped', { limits: { maxConnectionsPerIp: 2 }, scoping: 'scoped' });
    for (const [path, most] of [
      ['/admin', 1],
      ['/chat', 2],
    ] as const) {
      for (let i = 0; i < most; i++) expect(await ask(await server.open(path), 'in')).toBe('in');
      expect([path, (await server.handshake({}, path)).status]).toEqual([path, 429]);
    }
    for (let i = 0; i < 4; i++) expect(await ask(await server.open('/free'), 'in')).toBe('in');
  });

  it('limits the messages of its scope only', async () => {
    const server = await on('scoped', {
      limits: {},
      scoping: 'scoped',
      websockets: { maxMessageSize: 100 },
    });
    const [free, chat] = [await server.open('/free'), await server.open('/chat')];
    expect(await ask(free, 'x'.repeat(200))).toHaveLength(200);
    expect(await ask(chat, 'x'.repeat(100))).toHaveLength(100);
    const closed = closeCode(chat);
    chat.send('x'.repeat(101));
    expect(await closed).toBe(1009);
    expect(await ask(free, 'x'.repeat(200))).toHaveLength(200);
  });

  it('keeps the limits of a single route, and gives both seats back', async () => {
    const server = await on('routes', { limits: { maxConnectionsPerIp: 5 } });
    for (let i = 0; i < 3; i++) {
      const client = await server.open('/one');
      expect(await ask(client, 'in')).toBe('in');
      expect((await server.handshake({}, '/one')).status).toBe(503);
      await server.open();
      expect(await server.total()).toBe(i + 2);
      client.terminate();
      await server.becomes(i + 1);
    }
  });

  it('gives the seat of one guard back at once if another refuses by close code', async () => {
    const server = await on('narrower', { limits: {} });
    await server.open();
    // It does not answer the close: the socket lives on.
    const refused = server.rawHandshake();
    await until(() => refused.seen().includes('Max connections per IP'));
    expect(await server.total()).toBe(1);
    refused.socket.destroy();
  });

  it('throws for a socket route of the plugin itself, which Elysia would leave out', async () => {
    const server = await on('own', { limits: {} });
    expect(JSON.parse(await server.get('/own'))).toEqual(['ERR_UNSUPPORTED', 'ws']);
  });

  it('counts for both of two guards', async () => {
    const server = await on('pair', { limits: { maxConnectionsPerIp: 2 }, json: {} });
    const client = await server.open();
    expect(await ask(client, '[1]')).toBe('[1]');
    expect(JSON.parse(await server.get('/both'))).toEqual([
      [1, 3, 3],
      [1, 3, 3],
    ]);
    client.send('no JSON');
    expect(await closeCode(client)).toBe(1007);
    await until(async () => (await server.get('/both')) === '[]');
  });

  it('gives seats back when a route, a hook or the client ends the handshake', async () => {
    const server = await on('refusing', { limits: { maxConnectionsPerIp: 30 } });
    for (let i = 0; i < 5; i++) {
      expect((await server.handshake({}, '/refused')).status).toBe(401);
      expect((await server.handshake({}, '/throws')).status).toBe(500);
      expect((await server.handshake({}, '/nowhere')).status).toBe(404);
      expect((await server.handshake({ Connection: 'keep-alive' })).status).not.toBe(101);
      await server.becomes(0);
    }
    const handshake = (path: string): string =>
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n`;
    const waiting = Array.from({ length: 20 }, () => server.raw(handshake('/slow')));
    await server.becomes(20);
    for (const [at, { socket }] of waiting.entries())
      if (at % 2 === 0) socket.resetAndDestroy();
      else socket.end();
    await server.becomes(0);
    expect((await server.open()).readyState).toBe(1);
  });

  it('asks the requests of auth.http for a token, and no others', async () => {
    const server = await on('routes', {
      limits: {},
      auth: { policy: { keys: { secret: SECRET } }, http: ['/opened'], scope: 'chat' },
    });
    const status = async (path: string, value?: string): Promise<unknown[]> => {
      const headers: Record<string, string> =
        value === undefined ? {} : { authorization: `Bearer ${value}` };
      const answer = await fetch(`http://127.0.0.1:${server.port}${path}`, { headers });
      return [answer.status, answer.headers.get('www-authenticate')?.split(',')[0]];
    };
    expect(await status('/opened')).toEqual([401, 'Bearer']);
    expect(await status('/%6fpened?x')).toEqual([401, 'Bearer']);
    expect(await status('/opened', token())).toEqual([403, 'Bearer error="insufficient_scope"']);
    expect(await status('/opened', token({ scope: 'chat' }))).toEqual([200, undefined]);
    expect(await status('/guard')).toEqual([200, undefined]);
    const bearer = { authorization: `Bearer ${token({ scope: 'chat' })}` };
    expect(await ask(await server.open('/ws', bearer), 'in')).toBe('in');
  });

  it('keeps neither contexts nor sockets of handshakes that are over', async () => {
    const server = await on('refusing', { limits: {} });
    const heap = async (): Promise<number> => Number(await server.get('/heap'));
    const wave = async (): Promise<void> => {
      for (let i = 0; i < 20; i++) {
        const clients = await Promise.all(
          Array.from({ length: 25 }, () => server.open(`/ws?pad=${'x'.repeat(4000)}`)),
        );
        for (const client of clients) client.terminate();
        await server.becomes(0);
      }
    };
    await wave();
    const before = await heap();
    await wave();
    // 500 contexts, each with a URL of 4 kB and its headers.
    expect(((await heap()) - before) / 500).toBeLessThan(1500);
  });

  it('limits messages before they have arrived whole, and requests as elsewhere', async () => {
    const server = await on('refusing', {
      limits: {},
      websockets: { maxMessageSize: 1000 },
      requests: { maxPayloadSize: 1000, timeoutMs: 300 },
      exemptPaths: ['/stats'],
    });
    const client = await server.open();
    client.send('x'.repeat(2000));
    expect(await closeCode(client)).toBe(1009);
    await server.until(({ websockets }) => websockets.messagesTooLarge === 1);
    const url = `http://127.0.0.1:${server.port}`;
    const post = (body: string | ReadableStream): Promise<Response> =>
      fetch(`${url}/length`, { method: 'POST', body, duplex: 'half' } as RequestInit);
    expect(await (await post('x'.repeat(900))).text()).toBe('900');
    expect((await post('x'.repeat(1100))).status).toBe(413);
    const chunks = new ReadableStream({
      start(controller) {
        for (let i = 0; i < 3; i++) controller.enqueue(new Uint8Array(500));
        controller.close();
      },
    });
    expect((await post(chunks)).status).toBe(413);
    expect((await fetch(`${url}/sleep`)).status).toBe(503);
    expect((await server.guard()).requests?.active).toBe(1);
  });

  it('serves the page, and tells the address of a request', async () => {
    const server = await on('refusing', {
      limits: {},
      page: { path: '/portcullis', token: token() },
    });
    expect((await fetch(`http://127.0.0.1:${server.port}/portcullis`)).status).not.toBe(404);
    expect(await server.get('/address')).toBe('127.0.0.1');
  });
});
