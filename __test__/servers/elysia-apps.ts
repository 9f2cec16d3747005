// Apps of Elysia as its users build them; `kind` says which.
import { cors } from '@elysiajs/cors';
import { openapi } from '@elysiajs/openapi';
import { type AnyElysia, Elysia, t } from 'elysia';
import { ProductionMetrics } from '../../dist/index.js';
import { connectionOf, portcullis, type RouteGuardOptions } from '../../dist/elysia.js';
import { contract } from './options.mjs';

const { identifying, kind, listening, options, timers } = contract();

let opened = 0;
const echo = {
  open: (): void => void opened++,
  message: (ws: { send(data: string): unknown }, message: unknown) => void ws.send(String(message)),
};
/** Resolves when the server has listened for a while. */
const later = <T>(value: T): Promise<T> =>
  new Promise((resolve) => void timers.setTimeout(() => resolve(value), { delayMs: 200 }));

const scoped = (maxConnectionsPerIp: number, scoping: 'scoped' | 'local' = 'scoped') =>
  portcullis({ limits: { maxConnectionsPerIp }, scoping, timers });

/** A part of a server with a guard of its own, which its route shows. */
const part = (path: string, max: number): AnyElysia =>
  new Elysia()
    .use(scoped(max))
    .ws(path, echo)
    .get(`${path}/total`, ({ portcullis }) => portcullis.manager.total) as AnyElysia;

const { first, ...rest } = options as { first?: string; limits: object };
const whoAmI = identifying((request: Request, name) => request.headers.get(name));

/** Calls of hooks, by their names. */
const seen: Record<string, number> = {};
const note = (name: string) => (): undefined => void (seen[name] = (seen[name] ?? 0) + 1);

interface HandContext {
  readonly request: Request;
  readonly server: { upgrade(request: Request, options: never): boolean } | null;
  readonly params: { readonly data: string };
}
/** The part of a socket that handlers of data by hand use. */
interface HandSocket {
  readonly data: { readonly room?: string; readonly user?: string };
  send(text: string): unknown;
}
const byHand = (more: object = {}): object => ({
  id: 'the same for all',
  room: 'lobby',
  user: undefined,
  ...more,
  message: (ws: HandSocket, text: string) =>
    void ws.send(`${text} of ${ws.data.user} in ${ws.data.room}`),
});
/** Data of one socket, as Elysia's own, with an id of the application. */
const OWN: Record<string, (request: Request) => object> = {
  named: (request) => byHand({ request, id: 'mine' }),
  numbered: (request) => byHand({ request, id: 42 }),
};
/** Data that several sockets get; the handlers of a string and of nothing are those of Elysia, which find none. */
const GIVEN: Record<string, unknown> = {
  shared: byHand(),
  frozen: Object.freeze(byHand({ connection: undefined, open: undefined, drain: undefined })),
  class: Object.assign(new (class Room {})(), byHand()),
  text: 'lobby',
  nothing: undefined,
};

const APPS: Record<string, () => AnyElysia> = {
  'routes before and behind a guard with tokens': () =>
    new Elysia()
      .get('/before', () => 'secret')
      .ws('/early', echo)
      .use(portcullis({ ...rest, timers }))
      .get('/after', () => 'secret')
      .get('/:name/deep', () => 'secret')
      .get('/token', () => 'secret', { portcullis: { requireToken: true } })
      .get('/rated', () => 'secret', {
        portcullis: { requireToken: true, rate: { limit: 2, windowMs: 60_000 } },
      })
      .ws('/ws', echo) as AnyElysia,
  'early routes of a part': () =>
    new Elysia()
      .use(
        new Elysia({ prefix: '/part' })
          .ws('/', echo)
          .ws('/plain', echo)
          .ws('/opt/:id?', echo)
          .ws('/caf\u00e9', echo)
          .ws('/v:version', echo)
          .ws('/all/*', echo)
          .use(scoped(0)),
      )
      .ws('/other', echo)
      .ws('/other/:id', echo)
      .get('/opened', () => String(opened)) as AnyElysia,
  'routes that upgrade by hand': () => {
    const before = JSON.stringify(
      Object.values(GIVEN).map((data) => Reflect.ownKeys(Object(data))),
    );
    const upgrade = ({ request, server, params }: HandContext): string | undefined =>
      server?.upgrade(request, {
        data: OWN[params.data]?.(request) ?? GIVEN[params.data],
      } as never) === true
        ? undefined
        : 'no WebSocket';
    const guard = portcullis({ ...(options as { limits: object }), ...whoAmI, timers });
    const { manager } = guard.decorator.portcullis;
    return new Elysia()
      .get('/late/:data', upgrade)
      .use(guard)
      .get('/hand/:data', upgrade)
      .get('/bad', ({ request, server }) => {
        try {
          server?.upgrade(request, { headers: 5 } as never);
        } catch {
          return `${manager.total} after the error`;
        }
        return 'no error';
      })
      .get('/stats', () => manager.snapshot())
      .get('/ids', () => [...manager.connections.keys()])
      .get('/same', () => {
        const now = Object.values(GIVEN).map((data) => Reflect.ownKeys(Object(data)));
        return String(JSON.stringify(now) === before);
      }) as AnyElysia;
  },
  'routes with hooks, and one without': () => {
    const guard = portcullis({ limits: { maxConnectionsPerIp: 1 }, timers });
    return new Elysia()
      .use(new Elysia().derive(note('derive')).use(guard).ws('/derived', echo))
      .use(guard)
      .ws('/plain', echo)
      .ws('/logged', { ...echo, afterResponse: note('afterResponse') })
      .ws('/mapped', {
        ...echo,
        mapResponse: ({ response, set }) => {
          note('mapResponse')();
          return new Response(response instanceof Response ? response.body : null, {
            status: response instanceof Response ? response.status : 200,
            headers: { ...set.headers, 'x-mapped': 'yes' } as Record<string, string>,
          });
        },
      })
      .ws('/checked', { ...echo, query: t.Object({ room: t.String() }) })
      .ws('/both', echo)
      .get('/both', () => 'not a socket', { afterResponse: note('afterGet') })
      .get('/seen', () => seen)
      .get('/stats', ({ portcullis: { manager } }) => manager.snapshot()) as AnyElysia;
  },
  'sockets in unusual ways': () => {
    const one = portcullis({
      // A seat that is left behind stays.
      leaseTimeoutMs: 3_600_000,
      limits: { maxConnectionsPerIp: 1 },
      timers,
      requests: { timeoutMs: 300 },
    });
    const { manager } = one.decorator.portcullis;
    const forever = new Promise<undefined>(() => undefined);
    return new Elysia()
      .derive(({ request, server }) => {
        if (request.url.endsWith('/early')) server?.upgrade(request);
        return {};
      })
      .use(one)
      .get('/early', () => 'not a socket')
      .ws('/never', { ...echo, beforeHandle: () => forever })
      .get('/stats', () => manager.snapshot())
      .get('/held', () => String(manager.total)) as AnyElysia;
  },
  'a rated route whose socket opens before its hooks': () => {
    const app = new Elysia().onRequest(async ({ request, server }) => {
      if (request.headers.has('upgrade')) server?.upgrade(request);
      // Bun knows no peer of an upgraded request from the next turn on.
      await new Promise((resolve) => void setImmediate(resolve));
    });
    return app
      .use(portcullis({ ...rest, timers }))
      .get('/ws', () => 'no socket', { portcullis: { rate: { limit: 2, windowMs: 60_000 } } })
      .get('/stats', ({ portcullis: { manager } }) => manager.snapshot()) as AnyElysia;
  },
  'a socket that opens another one': () => {
    const guards = [
      portcullis({
        limits: { maxConnectionsPerUser: 1 },
        onFull: 'closeOldest',
        identify: ({ url }) => new URL(url).searchParams.get('user') ?? undefined,
        timers,
      }),
      portcullis({ limits: {}, leaseTimeoutMs: 3_600_000, timers }),
    ];
    const managers = guards.map((guard) => guard.decorator.portcullis.manager);
    let openOther = (): unknown => undefined;
    const app = new Elysia() as AnyElysia;
    for (const guard of guards) app.use(guard);
    return app
      .get(
        '/waiting',
        ({ request, server }) =>
          new Promise<undefined>((resolve) => {
            openOther = () => {
              server?.upgrade(request, { data: byHand() } as never);
              resolve(undefined);
            };
          }),
      )
      .ws('/ws', {
        open: (ws) => void (ws.data.query['as'] === 'opener' && openOther()),
        message: (ws, text) => {
          const symbols = Object.getOwnPropertySymbols(ws.data).length;
          ws.send(`${String(text)} on a route, ${symbols} keys on its data`);
        },
        close: (ws) => void (ws.data.query['as'] === 'closer' && openOther()),
      })
      .get('/held', () => managers.map(({ total }) => total).join()) as AnyElysia;
  },
  'two guards, of which one refuses by close': () => {
    const guards = (['first', 'second'] as const).map((name) =>
      portcullis({
        limits: { maxTotalConnections: name === first ? 0 : 5 },
        refuseWith: name === first ? 'close' : 'http',
        leaseTimeoutMs: 3_600_000,
        timers,
      }),
    );
    const managers = guards.map((guard) => guard.decorator.portcullis.manager);
    const app = new Elysia() as AnyElysia;
    for (const guard of guards) app.use(guard);
    return app
      .ws('/ws', echo)
      .get('/held', () => managers.map(({ total }) => total).join()) as AnyElysia;
  },
  'a plain route': () =>
    new Elysia()
      .use(portcullis(rest))
      .ws('/ws', echo)
      .get('/stats', ({ portcullis: { manager } }) => manager.snapshot()) as AnyElysia,
  'a guard for each part': () =>
    new Elysia().use(part('/admin', 1)).use(part('/chat', 3)).ws('/free', echo) as AnyElysia,
  'a guard for a group': () =>
    new Elysia()
      .group('/admin', (app) => app.use(scoped(1)).ws('/:room', echo))
      .ws('/free', echo) as AnyElysia,
  'one guard in two parts': () => {
    const guard = scoped(1);
    return new Elysia()
      .use(new Elysia().use(guard).ws('/admin', echo))
      .use(new Elysia({ prefix: '/chat' }).use(guard).ws('/', echo))
      .ws('/free', echo) as AnyElysia;
  },
  'a local guard': () =>
    new Elysia()
      .use(
        new Elysia()
          .use(
            portcullis({ limits: { maxConnectionsPerIp: 1 }, scoping: 'local' }).ws('/own', echo),
          )
          .ws('/parent', echo),
      )
      .ws('/free', echo) as AnyElysia,
  'a scoped guard that comes late': () =>
    new Elysia()
      .use(
        new Elysia({ prefix: '/admin' })
          .use(
            later({
              default: portcullis({
                limits: {},
                scoping: 'scoped',
                identify: () => Promise.resolve('ann'),
              }),
            }),
          )
          .ws('/:room', echo),
      )
      .ws('/free', echo) as AnyElysia,
  'a scoped guard behind its route': () =>
    new Elysia().use(new Elysia().ws('/admin', echo).use(scoped(1))).ws('/free', echo) as AnyElysia,
  'metrics of a part': () => {
    const metrics = new ProductionMetrics({ timers });
    const guard = portcullis({ limits: {}, scoping: 'scoped', metrics, timers });
    return new Elysia()
      .use(new Elysia().use(guard).get('/in/:id', () => 'in'))
      .get('/out', () => 'out')
      .get('/requests', () =>
        metrics
          .snapshot()
          .routes.map(({ route }) => route)
          .join(),
      ) as AnyElysia;
  },
};

/** The code and the field of the error that registering a route with these options throws. */
function wrong(register: (options: RouteGuardOptions) => unknown, given: object): unknown {
  try {
    register(given as RouteGuardOptions);
    return 'nothing';
  } catch (error) {
    const { code, field } = error as { code?: string; field?: string };
    return [code, field];
  }
}

Object.assign(APPS, {
  'routes with limits': () =>
    new Elysia()
      .use(portcullis({ ...options, ...whoAmI }))
      .ws('/one', { portcullis: { maxConnections: 1 }, ...echo })
      .ws('/slow', {
        portcullis: { connectRate: { limit: 2, windowMs: 3_600_000 } },
        ...echo,
      })
      .ws('/throws', {
        portcullis: { maxConnections: 1 },
        open: () => {
          throw new Error('open failed');
        },
      })
      .ws('/closed', {
        portcullis: { maxConnections: 1 },
        beforeHandle: ({ status }) => status(403, 'no'),
        message: () => undefined,
      })
      .ws('/who', {
        message: (ws) =>
          void ws.send(
            JSON.stringify([
              ws.data.user ?? null,
              ws.data.connection === connectionOf(ws),
              ws.data.connection?.ip,
            ]),
          ),
      })
      .ws('/upgrade', {
        upgrade: ({ user, set }) => void (set.headers['x-user'] = String(user)),
        message: () => undefined,
      })
      .onError(() => undefined)
      .get('/total', ({ portcullis }) => portcullis.manager.total)
      .get('/refused', ({ portcullis }) => portcullis.manager.snapshot().refused)
      .get('/close', ({ portcullis }) => portcullis.close()),
  // `first` of the options says whether the guard or CORS comes first.
  'an app with CORS': () => {
    const guard = portcullis(rest);
    const allow = cors({ origin: 'https://app.example' });
    const app =
      first === 'cors' ? new Elysia().use(allow).use(guard) : new Elysia().use(guard).use(allow);
    return app
      .ws('/ws', echo)
      .get('/slow', () => later('slow'))
      .post('/post', ({ body }) => body);
  },
  'an app with onError': () =>
    new Elysia()
      .use(portcullis(rest))
      .onError(({ code, error, set }) => {
        set.headers['x-code'] = String(code);
        if (first === 'silent') return undefined;
        const { response } = error as unknown as { response?: { code: string } };
        return { shaped: response?.code };
      })
      .ws('/ws', echo)
      .get('/slow', () => later('slow'))
      .post('/post', ({ body }) => body),
  // `first` says which hook answers in the place of the route.
  'an app whose hooks answer': () => {
    const hook = ({ response }: { response?: unknown }): Response =>
      new Response(JSON.stringify(response));
    const app = new Elysia();
    const hooked = first === 'mapResponse' ? app.mapResponse(hook) : app.onAfterHandle(hook);
    return hooked
      .use(portcullis(rest))
      .get('/token', () => 'secret', { portcullis: { requireToken: true } })
      .get('/rate', () => 'in', { portcullis: { rate: { limit: 1, windowMs: 60_000 } } })
      .ws('/ws', echo) as AnyElysia;
  },
  'an app that shapes': () =>
    new Elysia()
      .use(
        portcullis({
          ...rest,
          onRefused: ((request: Request, { code, status }: { code: string; status: number }) => {
            const query = new URL(request.url).search;
            if (query === '?throw') throw new Error('a secret');
            if (query === '?async') return Promise.reject(new Error('a secret'));
            if (query === '?response') return new Response('no');
            if (query === '?status') return { status: 200 };
            if (query === '?header') return { headers: { 'x-a': 'b\r\nx-c: d' } };
            if (query === '?none') return undefined;
            return {
              status: 420,
              headers: { 'Content-Type': 'text/plain', 'X-Was': String(status) },
              body: `${query === '?plain' ? 'cafe' : 'café'}: ${code}`,
            };
          }) as never,
        }),
      )
      .ws('/ws', echo)
      .post('/post', ({ body }) => body),
  'a described server': () =>
    new Elysia()
      .use(openapi({ path: '/docs' }))
      .use(portcullis({ ...options, page: { path: '/live', token: 'a-token-of-some-length' } }))
      .ws('/ws', echo)
      .get('/plain', () => 'plain')
      .post('/typed', () => 'typed', { response: t.String() })
      .post('/both', () => 'both', {
        response: { 200: t.String(), 429: t.Literal('own') },
        detail: { summary: 'kept' },
      })
      .get('/secret', () => '', { portcullis: { requireToken: true } })
      .get('/hidden', () => '', { detail: { hide: true } }),
  'a described part': () =>
    new Elysia()
      .use(openapi({ path: '/docs' }))
      .use(new Elysia().use(portcullis({ limits: {}, scoping: 'scoped' })).ws('/in', echo))
      .ws('/out', echo)
      .get('/plain', () => 'plain'),
  'a route beyond the scope': () =>
    new Elysia()
      .use(new Elysia().use(portcullis({ ...options, scoping: 'scoped' })).ws('/in', echo))
      .ws('/out', { portcullis: { maxConnections: 1 }, ...echo } as typeof echo),
  'routes with tokens': () =>
    new Elysia()
      .use(portcullis(options))
      .ws('/ws', {
        portcullis: { requireToken: true },
        message: (ws) => void ws.send(ws.data.user),
      })
      .get('/secret', ({ user }) => `secret of ${user}`, { portcullis: { requireToken: true } })
      .post('/secret', ({ user }) => `secret of ${user}`, { portcullis: { requireToken: true } })
      .get('/scoped', ({ user, claims }) => `scoped for ${user}: ${claims?.['scope']}`, {
        portcullis: { requireToken: true, scope: 'chat:read' },
      })
      .ws('/scoped/ws', {
        portcullis: { requireToken: true, roles: ['admin'] },
        message: (ws) => void ws.send(String(ws.data.connection?.claims?.['roles'])),
      })
      .get('/free', ({ user }) => `free for ${user}`)
      .get('/denials', ({ portcullis }) => portcullis.snapshot().authDenials),
  'rated routes': () =>
    new Elysia()
      .use(portcullis(options))
      .get('/address', () => 'by address', { portcullis: { rate: { limit: 1, windowMs: 60_000 } } })
      .get('/user', ({ user }) => `by user ${user}`, {
        portcullis: { requireToken: true, rate: { limit: 1, windowMs: 60_000, by: 'user' } },
      })
      .get('/free', () => 'free'),
  'a rated route in an app with users of its own': () =>
    new Elysia()
      .use(portcullis(options))
      .decorate('user', { id: 1 } as unknown as string)
      .derive(({ query }) => (query['as'] === undefined ? {} : { user: query['as'] }))
      .get('/user', ({ user }) => user, {
        portcullis: { requireToken: true, rate: { limit: 1, windowMs: 60_000, by: 'user' } },
      }),
  'routes behind a hook that waits': () => {
    const waiting: (() => void)[] = [];
    let left = 0;
    const guard = portcullis(options);
    const { manager } = guard.decorator.portcullis;
    return new Elysia()
      .derive(async ({ request }) => {
        if (!request.url.includes('/slow')) return;
        request.signal.addEventListener('abort', () => left++);
        await new Promise<void>((resolve) => void waiting.push(resolve));
      })
      .use(guard)
      .get('/slow/rated', () => 'rated', { portcullis: { rate: { limit: 1, windowMs: 60_000 } } })
      .get('/slow/secret', () => 'secret', { portcullis: { requireToken: true } })
      .ws('/slow/ws', echo)
      .get('/waiting', () => waiting.length)
      .get('/left', () => left)
      .get('/go', () => waiting.splice(0).forEach((resolve) => resolve()))
      .get('/banned', () => manager.bans().map(({ address }) => address));
  },
  'limiters of routes': () => {
    const metrics = new ProductionMetrics({ timers });
    const rate = { limit: 1, windowMs: 60_000 };
    return new Elysia()
      .use(portcullis({ limits: {}, metrics, timers, page: { path: '/page', access: 'local' } }))
      .get('/users/:id', () => 'user', { portcullis: { rate } })
      .get('/named', () => 'named', { portcullis: { rate: { ...rate, name: 'exports' } } })
      .guard({ portcullis: { rate } }, (app) =>
        app.get('/first', () => 'first').get('/second', () => 'second'),
      )
      .get('/metrics', () => metrics.toPrometheus());
  },
  'routes with a verifier that fails': () => {
    const errors: string[] = [];
    const fail = (): never => {
      throw new Error('a secret');
    };
    Object.assign(options.auth as object, { safeVerify: fail, authenticate: async () => fail() });
    Object.defineProperty(options.auth, 'isRemote', { value: options.name === 'remote' });
    return new Elysia()
      .use(
        portcullis({
          ...options,
          onIdentifyError: (error, ip) => errors.push(`${(error as Error).message} ${ip}`),
        }),
      )
      .ws('/ws', echo)
      .get('/secret', () => 'secret', { portcullis: { requireToken: true } })
      .get('/errors', ({ portcullis }) => [...errors, portcullis.snapshot().authDenials]);
  },
  'wrong routes': () => {
    const app = new Elysia().use(portcullis({ limits: {} }));
    const ws = (portcullis: RouteGuardOptions): unknown => app.ws('/x', { portcullis, ...echo });
    const get = (portcullis: RouteGuardOptions): unknown => app.get('/x', () => '', { portcullis });
    const seen = [
      wrong(ws, { maxConnection: 1 }),
      wrong(ws, { maxConnections: -1 }),
      wrong(ws, { maxConnections: '1' }),
      wrong(ws, { connectRate: { limit: 0, windowMs: 1 } }),
      wrong(ws, { connectRate: 5 }),
      wrong(ws, { requireToken: 1 }),
      wrong(ws, { requireToken: true }),
      wrong(get, { scope: 'a' }),
      wrong(get, { roles: [5] }),
      wrong(get, { maxConnections: 1 }),
      wrong(get, { requireToken: false }),
      wrong(get, { rate: { limit: 0, windowMs: 1 } }),
      wrong(get, { rate: { limit: 1, windowMs: 1, by: 'user' } }),
      wrong(ws, { rate: { limit: 1, windowMs: 1 } }),
    ];
    return new Elysia().get('/seen', () => seen);
  },
});

const build = APPS[kind];
if (build === undefined) throw new Error(`no app ${kind}`);
const app = build()
  .get('/opened', () => opened)
  .listen({ port: 0, hostname: '127.0.0.1' });
void app.modules.then(() => console.log('loaded'));
listening(app.server?.port);
