import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { posix } from 'node:path';
import { Hono } from 'hono';
import { getPath } from 'hono/utils/url';
import { afterEach, describe, expect, it } from 'vitest';
import { pathOfTarget, routedTarget } from '../dist/adapters/elysia-app-routes.js';
import { HttpTokens } from '../dist/guard/http-tokens.js';
import { isReadAs, pathReadingsOf } from '../dist/http/path-readings.js';
import { RequestRateLimiter } from '../dist/http/request-rates.js';
import { TokenVerifier } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import { SECRET } from './fixtures/sign.js';

// A path that passes `auth.http` or a rate of a route, because a router reads it otherwise than the guard.

const isBun = 'bun' in process.versions;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

const none = (): string => '';

it('reads a host beyond ASCII alike, however often it has read', () => {
  const odd = ['//\u00c3\u0080/me', '//é/me'];
  const cold = odd.map((target) => pathReadingsOf(target));
  for (let at = 0; at < 100_000; at++) pathReadingsOf(`/a%20${at & 255}`);
  expect(odd.map((target) => pathReadingsOf(target))).toEqual(cold);
});

const beforeQuery = (target: string): string => target.split('?', 1)[0] ?? '';

/** Reads the URL of a target; those that are absolute already are not read so. */
const behindHost = (target: string, read: (url: string) => string): string | undefined =>
  target.startsWith('/') ? read(`http://localhost${target}`) : undefined;

/** How routers find the path of a target; `undefined` where one fails. */
const ROUTERS: Readonly<Record<string, (target: string) => string | undefined>> = {
  'the target as it is': beforeQuery,
  'new URL()': (target) => new URL(target, 'http://localhost').pathname,
  'new URL(), decoded': (target) =>
    decodeURIComponent(new URL(target, 'http://localhost').pathname),
  'new URL() behind a host': (target) => behindHost(target, (url) => new URL(url).pathname),
  'host and target joined': (target) =>
    target.includes('://') ? undefined : new URL(`http://localhost${target}`).pathname,
  Hono: (target) => behindHost(target, (url) => getPath({ url } as Request)),
  Elysia: (target) => behindHost(target, (url) => pathOfTarget(routedTarget(url) ?? '')),
  'a host cut off': (target) => beforeQuery(target.replace(/^https?:\/\/[^/]*/i, '')),
  'decoded, dots resolved': (target) => posix.normalize(decodeURIComponent(beforeQuery(target))),
  'decoded twice': (target) => decodeURIComponent(decodeURIComponent(beforeQuery(target))),
  'parameters cut off': (target) => decodeURIComponent(target.split(/[;?]/, 1)[0] ?? ''),
  'parameters of segments cut off': (target) =>
    posix.normalize(decodeURIComponent(beforeQuery(target).replaceAll(/;[^/]*/g, ''))),
};

function pathIn(router: string, target: string): string | undefined {
  try {
    const path = ROUTERS[router]?.(target)?.toLowerCase().replaceAll(/\/+/g, '/');
    return path !== '/' && path?.endsWith('/') === true ? path.slice(0, -1) : path;
  } catch {
    return undefined;
  }
}

const isGuarded = (path: string | undefined): boolean =>
  path === '/me' || path?.startsWith('/api/') === true;

/** Parts of targets; those that stand several times come up more often. */
const PARTS = [
  String.raw`/ / / // \ .. . %2e %2E%2e %2f %5c ; ;v=1 # ? me me ME %6de m%65 %256de api/x api %61pi`,
  '%2561pi x a:80 %ff % %zz %C3%A9 me/.. a/../ %09',
].flatMap((parts) => parts.split(' '));
const BEGINNINGS =
  String.raw`/ / / // /\ /// http:// http://h HTTP:/// https:/ * *.x/ :80/ @x/`.split(' ');

/** Returns one of the targets that a seed names. */
function targetOf(seed: number): string {
  let state = seed;
  const next = (most: number): number => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
  const parts = Array.from({ length: 1 + next(7) }, () => PARTS[next(PARTS.length)] ?? '');
  return `${BEGINNINGS[next(BEGINNINGS.length)] ?? ''}${parts.join('')}`;
}

/** Returns a judge of requests whose routes have nothing left. */
function spentRates(): (target: string, method?: string) => string | undefined {
  const spent = { limit: 1, windowMs: 60_000 };
  const rates = new RequestRateLimiter(
    { perRoute: { '/me': spent, '/api/*': spent }, headers: [] },
    new ManualClock(),
  );
  const judge = (url: string, method = 'GET'): string | undefined =>
    rates.judge({ request: {}, method, url, clientOf: () => '192.0.2.1' })?.refusal?.code;
  for (const path of ['/me', '/api/x']) expect(judge(path)).toBe(undefined);
  return judge;
}

describe('a guarded path', () => {
  it.each(Object.keys(ROUTERS))('needs a token and spends its rate, as read by: %s', (router) => {
    const tokens = new HttpTokens(['/me', '/api/*']);
    const judge = spentRates();
    const passed: string[] = [];
    let served = 0;
    for (let seed = 1; seed <= 40_000; seed++) {
      const target = targetOf(seed);
      if (!isGuarded(pathIn(router, target))) continue;
      served++;
      if (!tokens.needs('GET', target, none) || judge(target) === undefined) passed.push(target);
    }
    expect([passed, served > 500]).toEqual([[], true]);
  });

  it.each(
    [
      String.raw`//a/me /\a/me ///a/me //a:80/me /%2fa/me HTTP:///a/me http:/me http://a?x/me \me me`,
      'http://a/x/../me /x/../me /./me /%2e/me /;/../me /x#/../me /me;v=1 /%6de;v=1 /%256de /me/ /ME',
      '/x/..%2fme /%61pi/a%ff /%61pi/%2e%2e%2f..%2fx /api;v=1/x /api//x /api/x%25252525252561 /m\te',
      '*/me *.x/me *?/me *#/me .x/me :80/me @x/me x/me me *://x/me 1://x/me *%2fme',
      `/${'x'.repeat(3000)}/../me /%61pi/${'x'.repeat(3000)} /${'%2525'.repeat(2000)}`,
    ]
      .flatMap((targets) => targets.split(' '))
      .map((target) => [target.slice(0, 40), target] as const),
  )('is found in %s', (_, target) => {
    expect(new HttpTokens(['/me', '/api/*']).needs('GET', target, none)).toBe(true);
    expect(spentRates()(target)).toBe('route_request_rate');
  });

  it.each([
    '/',
    '/men',
    '/x/me',
    '/public#/me',
    '/x?/me',
    '/x?a=//b/me',
    '/.well-known/me',
    '//x',
    '*',
  ])('is not found in %s', (target) => {
    expect(new HttpTokens(['/me', '/api/*']).needs('GET', target, none)).toBe(false);
    expect(spentRates()(target)).toBe(undefined);
  });

  it('is the root of a server in *, for a router that joins host and target', () => {
    expect(new HttpTokens(['/']).needs('GET', '*', none)).toBe(true);
    expect(new HttpTokens(['/x']).needs('OPTIONS', '*', none)).toBe(false);
  });

  it('of a plain target has one reading, and an absolute URL may have another path than its exempt one', () => {
    expect(pathReadingsOf('http://localhost:3000/API/users/7/?x=//y').paths).toEqual([
      '/api/users/7',
    ]);
    expect(pathReadingsOf('/files/a%20b').paths).toEqual(['/files/a%20b', '/files/a b']);
    for (const url of ['http://h/healthz', 'http://h/healthz?x', 'HTTPS://h:8/healthz'])
      expect([url, isReadAs(url, '/healthz')]).toEqual([url, true]);
    for (const url of ['http:///healthz', 'http://a\\me/healthz', 'http://a?/healthz', 'http://'])
      expect([url, isReadAs(url, '/healthz')]).toEqual([url, false]);
  });

  it('spends each limit once, and that of each route that a router may serve', () => {
    const rates = new RequestRateLimiter(
      {
        perRoute: {
          '/x/*': { limit: 5, windowMs: 60_000 },
          'POST /me': { limit: 5, windowMs: 60_000 },
          '/*': { limit: 5, windowMs: 60_000 },
        },
      },
      new ManualClock(),
    );
    const left = (): number[] =>
      ['GET /x/a', 'POST /me', 'GET /'].map(
        (route) => rates.explain({ ip: '192.0.2.1', route })[0]?.result.remaining ?? -1,
      );
    const ask = (url: string): unknown =>
      rates.judge({ request: {}, method: 'POST', url, clientOf: () => '192.0.2.1' });
    ask('/me');
    expect(left()).toEqual([5, 4, 5]);
    ask('/x/../me');
    expect(left()).toEqual([4, 3, 5]);
    ask('//x/./me');
    expect(left()).toEqual([3, 2, 4]);
  });
});

/** Sends a request byte by byte as given: the answer. */
async function raw(port: number, head: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  let seen = '';
  socket.on('data', (data: Buffer) => (seen += data.toString('latin1')));
  socket.write(`${head}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  await once(socket, 'close');
  return seen;
}
const statusOf = async (port: number, head: string): Promise<number> =>
  Number((await raw(port, head)).split(' ')[1]);

const OPTIONS = {
  limits: {},
  auth: {
    verifier: new TokenVerifier({ algorithms: ['HS256'], keys: { secret: SECRET } }),
    http: ['/me', '/api/*'],
  },
  exemptPaths: ['/healthz'],
};
const RATED = {
  limits: {},
  requests: {
    rate: {
      perRoute: {
        'GET /me': { limit: 1, windowMs: 60_000 },
        '/api/*': { limit: 1, windowMs: 60_000 },
      },
    },
  },
};

/** Serves secrets by the path that `new URL()` finds. */
function answerFor(url: string | undefined): string {
  if (url === undefined || !URL.canParse(url, 'http://localhost')) return 'public';
  const { pathname } = new URL(url, 'http://localhost');
  return pathname === '/me' || pathname.startsWith('/api/') ? 'secret' : 'public';
}

const overNode =
  (urlOf: (request: IncomingMessage) => string | undefined) =>
  async (options: object): Promise<number> => {
    const guard = portcullis(options as typeof OPTIONS);
    const server = createServer(
      guard.request((request: IncomingMessage, response: ServerResponse) =>
        response.end(answerFor(urlOf(request))),
      ),
    ).listen(0, '127.0.0.1');
    await once(server, 'listening');
    ends.push(
      () => guard.close(),
      () => void server.close(),
    );
    return (server.address() as AddressInfo).port;
  };

/** Hono, and a handler that reads the URL itself, on Bun. */
const onBun =
  (handle: (request: Request) => Response | Promise<Response>) =>
  async (options: object): Promise<number> => {
    const { portcullis: guardOf } = await import('../dist/bun.js');
    const guard = guardOf(options as typeof OPTIONS);
    const { serve } = (
      globalThis as unknown as {
        Bun: { serve(given: object): { readonly port: number; stop(force: boolean): unknown } };
      }
    ).Bun;
    const server = serve({ port: 0, hostname: '127.0.0.1', fetch: guard.fetch(handle) });
    ends.push(
      () => guard.close(),
      () => server.stop(true),
    );
    return server.port;
  };

const hono = new Hono()
  .get('/me', (context) => context.text('secret'))
  .get('/api/:id', (context) => context.text('secret'))
  .all('*', (context) => context.text('public'));

const overElysia =
  (handle: (request: Request) => Response | Promise<Response>) =>
  async (options: object): Promise<number> => {
    const { Elysia } = await import('elysia');
    const { portcullis: plugin } = await import('../dist/elysia.js');
    const guard = plugin(options as typeof OPTIONS);
    const app = new Elysia()
      .use(guard)
      .all('/*', ({ request }) => handle(request))
      .listen({ port: 0, hostname: '127.0.0.1' });
    ends.push(
      () => guard.decorator.portcullis.close(),
      () => app.stop(true),
    );
    return app.server?.port ?? 0;
  };

const byUrl = ({ url }: Request): Response => new Response(answerFor(url));
const byHono = (request: Request): Response | Promise<Response> => hono.fetch(request);
const HOSTS = ['localhost', 'a', 'a?x', 'a#x', 'a/x', 'a/me?', 'a\\me?', 'a b', 'x@y', ''];
const TARGETS = [
  String.raw`/me //a/me /\a/me ///a/me HTTP:///a/me /x/../me /%2e/me /x?/me /healthz?/me /;/../me`,
  '*/me *.x/api/x *?/me */healthz/../me /healthz?abcdef/me /healthz/../me http://healthz/me /%61pi/a%ff //healthz/me /x#/me',
].flatMap((targets) => targets.split(' '));

if (!isBun) console.log('skipped on Node: paths in the adapters of Elysia and Bun need Bun');

describe.each([
  ['node:http and new URL()', overNode(({ url }) => url), true],
  [
    'node:http and new URL() of its host',
    overNode(({ url, headers: { host } }) => `http://${host}${url}`),
    true,
  ],
  ['Bun and new URL()', onBun(byUrl), isBun],
  ['Bun and Hono', onBun(byHono), isBun],
  ['Elysia and new URL()', overElysia(byUrl), isBun],
  ['Elysia and Hono', overElysia(byHono), isBun],
] as const)('%s', (_, serve, isHere) => {
  const heads = HOSTS.flatMap((host) =>
    TARGETS.map((target) => `GET ${target} HTTP/1.1\r\nHost: ${host}`),
  ).concat(TARGETS.map((target) => `GET ${target} HTTP/1.0`));

  it.skipIf(!isHere)('serves no secret without a token, and no more than its rate', async () => {
    const judged = await serve(OPTIONS);
    const rated = await serve(RATED);
    for (const path of ['/me', '/api/x'])
      expect(await raw(rated, `GET ${path} HTTP/1.1\r\nHost: localhost`)).toContain('secret');
    for (const port of [judged, rated]) {
      const answers = await Promise.all(heads.map(async (head) => [head, await raw(port, head)]));
      expect(answers.filter(([, answer]) => answer?.includes('secret') === true)).toEqual([]);
    }
    for (const path of ['/healthz', '/x'])
      expect(await raw(judged, `GET ${path} HTTP/1.1\r\nHost: localhost`)).toContain('public');
  });
});

describe.each([
  ['portcullis/ws', overNode(() => undefined), true],
  ['portcullis/bun', onBun(() => new Response('public')), isBun],
] as const)('a request without a valid Host on %s', (name, serve, isHere) => {
  const HEADS = ['HTTP/1.1\r\nHost: a?x', 'HTTP/1.1\r\nHost: a/b', 'HTTP/1.1\r\nHost: '];
  const OTHERS = ['localhost:3000', 'a_b', '[::1]:80', 'a.example.', '127.0.0.1:'];

  it.skipIf(!isHere)('gets 400 where limits hold', async () => {
    for (const options of [OPTIONS, RATED]) {
      const port = await serve({ ...options, refusalFormat: 'problem' });
      for (const path of ['/x', '/healthz', '/me'])
        for (const head of HEADS) {
          const answer = await raw(port, `GET ${path} ${head}`);
          expect(answer).toMatch(/^HTTP\/1.1 400 /);
          expect(answer).toContain('"code":"invalid_host"');
          expect(answer).toContain('application/problem+json');
        }
      for (const host of OTHERS)
        expect([host, await statusOf(port, `GET /x HTTP/1.1\r\nHost: ${host}`)]).toEqual([
          host,
          200,
        ]);
      // Bun leaves the URL relative, and Node has a target only.
      const isRefused = name === 'portcullis/bun';
      expect(await statusOf(port, 'GET /x HTTP/1.0')).toBe(isRefused ? 400 : 200);
      // Health checks often use HTTP/1.0.
      const isServed = !isRefused || options === OPTIONS;
      expect(await statusOf(port, 'GET /healthz HTTP/1.0')).toBe(isServed ? 200 : 400);
      expect(await statusOf(port, 'GET /healthz?/me HTTP/1.0')).toBe(isRefused ? 400 : 200);
    }
    const unlimited = await serve({ limits: {} });
    for (const head of HEADS) expect(await statusOf(unlimited, `GET /x ${head}`)).toBe(200);
  });
});
