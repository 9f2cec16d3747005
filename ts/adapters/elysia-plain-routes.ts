/**
 * The WebSocket routes of an Elysia app on which nothing but the guard can see a refusal. Elysia's work on a
 * request (cookies, headers, the context, promises) costs more than the refusal itself, so the handshakes of
 * these routes are judged before it.
 */
import {
  type AppRoute,
  functionsOf,
  pathOfTarget,
  routedTarget,
  type ScopedApp,
  SocketRoutes,
} from './elysia-app-routes.js';

/** An app, as far as Elysia's types hide it. */
interface PlainApp extends ScopedApp {
  readonly event: { readonly trace?: unknown };
  readonly extender: { readonly higherOrderFunctions: readonly unknown[] };
}

/** Fields of a route that have no part in a refusal. Others may run for one, or answer before the guard. */
const WITHOUT_PART = new Set([
  'start',
  'stop',
  'request',
  'parse',
  'detail',
  'tags',
  'type',
  'websocket',
  'open',
  'message',
  'drain',
  'ping',
  'pong',
  'close',
  'idleTimeout',
  'maxPayloadLength',
  'backpressureLimit',
  'closeOnBackpressureLimit',
  'sendPings',
  'perMessageDeflate',
]);

const isEmpty = (hooks: unknown): boolean =>
  hooks === undefined || hooks === null || (Array.isArray(hooks) && hooks.length === 0);
/** True for hooks as Elysia keeps them: any other form is not understood here. */
const isList = (hooks: unknown): boolean => isEmpty(hooks) || Array.isArray(hooks);

/** The plain routes of one app. @internal */
export class PlainRoutes {
  /** The guard's hooks of each route. */
  #transform: unknown;
  #beforeHandle: unknown;
  #app: ScopedApp | undefined;
  /** Number of routes from which `#paths` was made. */
  #routes = -1;
  readonly #paths = new Set<string>();
  #hasStrangers = true;
  #sockets: SocketRoutes | undefined;

  /** Notes the guard's own hooks of a route. */
  follow(transform: unknown, beforeHandle: unknown): void {
    this.#transform = transform;
    this.#beforeHandle = beforeHandle;
  }

  /** True if a handshake reaches a plain route of an app. */
  has(app: ScopedApp, { url, headers }: Request): boolean {
    const { event, extender, router } = app as PlainApp;
    // More than the guard's own wrapper: another one would see a refusal, or answer in its place.
    if (extender.higherOrderFunctions.length !== 1 || !isEmpty(event.trace)) return false;
    this.#look(app, router.history.length);
    if (this.#paths.size === 0) return false;
    // Another spelling of the path or of the header is left to Elysia's router.
    const target = routedTarget(url);
    if (target === undefined) return false;
    return this.#paths.has(pathOfTarget(target)) && headers.get('upgrade') === 'websocket';
  }

  /**
   * True if a handshake may reach a route without the guard's hook, such as one that was registered before the
   * plugin. Elysia takes only the exact header for one: any other may reach a route of GET.
   */
  mayMissHook(app: ScopedApp, { url, headers }: Request): boolean {
    this.#look(app, app.router.history.length);
    if (!this.#hasStrangers) return false;
    if (headers.get('upgrade') !== 'websocket') return true;
    const route = (this.#sockets ??= new SocketRoutes(app)).of(url);
    return route === undefined || !this.#isHooked(route);
  }

  #isHooked({ hooks }: AppRoute): boolean {
    return functionsOf(hooks.beforeHandle).includes(this.#beforeHandle);
  }

  #look(app: ScopedApp, routes: number): void {
    if (this.#app !== app || this.#routes !== routes) this.#learn(app);
  }

  #learn(app: ScopedApp): void {
    const { history } = app.router;
    this.#app = app;
    this.#routes = history.length;
    this.#paths.clear();
    for (const route of history) if (this.#isPlain(route)) this.#paths.add(route.path);
    // A path may have several routes, such as one for GET.
    for (const route of history) if (!this.#isPlain(route)) this.#paths.delete(route.path);
    this.#hasStrangers = !history.every((route) => this.#isHooked(route));
    this.#sockets = undefined;
  }

  #isPlain({ method, path, hooks }: AppRoute): boolean {
    if (method !== 'WS' || /[:*]/.test(path)) return false;
    const transforms = functionsOf(hooks.transform);
    const [first] = functionsOf(hooks.beforeHandle);
    return (
      first === this.#beforeHandle &&
      isList(hooks.transform) &&
      transforms.every((hook) => hook === this.#transform) &&
      Object.entries(hooks).every(
        ([name, value]) =>
          isEmpty(value) ||
          name === 'transform' ||
          name === 'beforeHandle' ||
          WITHOUT_PART.has(name),
      )
    );
  }
}
