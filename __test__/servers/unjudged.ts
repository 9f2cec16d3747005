// Servers whose sockets can open without a judged handshake; `kind` says which of them. Each counts the sockets
// that its own handlers hear of.
import { type AnyElysia, Elysia } from 'elysia';
import { portcullis as bunGuard } from '../../dist/bun.js';
import { portcullis as elysiaGuard } from '../../dist/elysia.js';
import { contract } from './options.mjs';

const { identifying, kind, options, tally, timers } = contract();
const given = { ...options, ...identifying((request: Request, name) => request.headers.get(name)) };
let opened = 0;
/** True once the plugins that come as promises are there. */
let isLoaded = true;
const open = (): void => void opened++;

/** Bun throws for these. */
const BAD_OPTIONS = { headers: 5 } as never;

interface Source {
  readonly manager: { readonly connections: ReadonlyMap<string, { readonly ip: string }> };
  snapshot(): object;
}
const tell = ({ manager, snapshot }: Source): object => ({
  isLoaded,
  opened,
  identified: tally.identified,
  addresses: [...manager.connections.values()].map(({ ip }) => ip),
  guard: snapshot(),
});

/** An app whose route `/ws` is Elysia's own. */
const withRoute = (app: AnyElysia): AnyElysia => app.ws('/ws', { open, message: () => undefined });
/** An app whose handler of `/ws` upgrades by hand. */
const byHand = (app: AnyElysia): AnyElysia =>
  app
    .onError(() => 'thrown')
    .get('/ws', ({ request, server }) =>
      server?.upgrade(request, { data: { open } as never }) === true ? undefined : 'no WebSocket',
    )
    .get('/throws', ({ request, server }) => void server?.upgrade(request, BAD_OPTIONS));

function serveElysia(build: (app: AnyElysia, plugin: AnyElysia) => AnyElysia): number | undefined {
  const plugin = elysiaGuard(given);
  const guard = plugin.decorator.portcullis;
  const app = build(new Elysia() as AnyElysia, plugin as AnyElysia)
    .get('/counts', () => tell(guard))
    .listen({ port: 0, hostname: '127.0.0.1' });
  isLoaded = false;
  void app.modules.then(() => (isLoaded = true));
  return app.server?.port;
}

type Handler = (request: Request, server: Bun.Server<undefined>) => Response | undefined;

function serveBun(routes: (guarded: Handler, bare: Handler) => Record<string, Handler>): number {
  const guard = bunGuard(given);
  const upgrade: Handler = (request, server) =>
    server.upgrade(request) ? undefined : new Response('no WebSocket', { status: 400 });
  const handlers = routes(guard.fetch(upgrade), upgrade);
  const server = Bun.serve<undefined, never>({
    port: 0,
    hostname: '127.0.0.1',
    fetch(request, server) {
      const { pathname } = new URL(request.url);
      if (pathname === '/counts') return Response.json(tell(guard));
      if (pathname === '/throws') return new Response(String(server.upgrade(request, BAD_OPTIONS)));
      return (handlers[pathname] ?? upgrade)(request, server);
    },
    error: () => new Response('thrown', { status: 500 }),
    websocket: guard.websocket({ open, message: () => undefined }),
  });
  return server.port ?? 0;
}

/** Resolves when the server has listened for a while. */
const later = <T>(value: T): Promise<T> =>
  new Promise((resolve) => void timers.setTimeout(() => resolve(value), { delayMs: 200 }));

const KINDS: Record<string, () => number | undefined> = {
  'Elysia, the plugin first': () => serveElysia((app, plugin) => withRoute(app.use(plugin))),
  'Elysia, a promise': () =>
    serveElysia((app, plugin) => withRoute(app.use(Promise.resolve({ default: plugin })))),
  'Elysia, a slow promise': () =>
    serveElysia((app, plugin) => withRoute(app.use(later({ default: plugin })))),
  // Elysia 1.4 takes only the routes of a plugin that an async function returns. It answers no request at all
  // if the function returns its own app.
  'Elysia, an async function': () =>
    serveElysia((app, plugin) => withRoute(app.use(() => Promise.resolve(plugin)))),
  'Elysia, a slow async function': () =>
    serveElysia((app, plugin) => withRoute(app.use(() => later(plugin)))),
  'Elysia, the plugin last': () => serveElysia((app, plugin) => withRoute(app).use(plugin)),
  'Elysia, by hand': () => serveElysia((app, plugin) => byHand(app.use(plugin))),
  'Elysia, by hand, the plugin last': () => serveElysia((app, plugin) => byHand(app).use(plugin)),
  'Bun, wrapped': () => serveBun((guarded) => ({ '/ws': guarded })),
  'Bun, not wrapped': () => serveBun((_, bare) => ({ '/ws': bare })),
  'Bun, not wrapped beside a wrapped handler': () =>
    serveBun((guarded, bare) => ({ '/guarded': guarded, '/ws': bare })),
};
console.log(`listening on http://127.0.0.1:${KINDS[kind]?.()}`);
