// Apps of Elysia as its users build them; `kind` says which.
import { type AnyElysia, Elysia } from 'elysia';
import { ProductionMetrics } from '../../dist/index.js';
import { portcullis } from '../../dist/elysia.js';
import { kind, listening, timers } from './options.mjs';

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

const APPS: Record<string, () => AnyElysia> = {
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
      .get('/requests', () => metrics.snapshot().routes.map(({ route }) => route).join()) as AnyElysia;
  },
};

const build = APPS[kind];
if (build === undefined) throw new Error(`no app ${kind}`);
const app = build()
  .get('/opened', () => opened)
  .listen({ port: 0, hostname: '127.0.0.1' });
void app.modules.then(() => console.log('loaded'));
listening(app.server?.port);
