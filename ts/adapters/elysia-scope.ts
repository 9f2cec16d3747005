/** The routes that a plugin of Elysia guards: those of the server, of the instance that uses it, or its own. */
import { outOfRange, wrongType } from '../base/errors.js';
import { HttpTokens } from '../guard/http-tokens.js';
import { followParents } from './elysia-parents.js';
import { type AppRoute, functionsOf, type ScopedApp, SocketRoutes } from './elysia-app-routes.js';

/** Routes that a plugin guards, as `as` of Elysia's hooks. */
export type GuardScoping = 'global' | 'scoped' | 'local';

/** An app that listens. @internal */
export interface ListeningElysia extends ScopedApp {
  readonly server: object | null;
  /** Resolves when the plugins that come as promises are there. */
  readonly modules: Promise<unknown>;
}

/**
 * Checks the option `scoping`.
 * @throws ERR_OUT_OF_RANGE; ERR_INVALID_ARG_TYPE for limits or tokens of requests in a part of a server
 * @internal
 */
export function checkedScoping(options: {
  readonly scoping?: GuardScoping | undefined;
  readonly requests?: unknown;
  readonly auth?: unknown;
}): GuardScoping {
  const scoping = options?.scoping ?? 'global';
  if (scoping !== 'global' && scoping !== 'scoped' && scoping !== 'local')
    throw outOfRange('scoping', scoping, "'global', 'scoped' or 'local'");
  if (scoping === 'global') return scoping;
  if (options.requests !== undefined)
    throw wrongType(
      'requests',
      options.requests,
      `absent with scoping '${scoping}': limits of requests hold for a whole server, before its routes are known`,
    );
  const { http } = (options.auth ?? {}) as { readonly http?: unknown };
  if (!new HttpTokens(http).isEmpty)
    throw wrongType(
      'auth.http',
      http,
      `absent with scoping '${scoping}': it holds for a whole server, before its routes are known; requireToken of a route asks its requests for a token`,
    );
  return scoping;
}

/** Key of the scopes that a request has entered, on the request: one for each plugin. */
type Marked = { [key: symbol]: true | undefined };

/** Returns the last app of a chain of parents: the server's own. */
function rootOf(app: ScopedApp): ScopedApp {
  let root = app;
  for (let parent = app.getParent(); parent !== null; parent = parent.getParent()) root = parent;
  return root;
}

/** The scope of one plugin. @internal */
export class RouteScope {
  readonly scoping: GuardScoping;
  readonly #key = Symbol('portcullis.scope');
  /** Instances that use the plugin. */
  readonly #parents = new Set<ScopedApp>();
  /** Handlers of these instances' WebSocket routes that were registered before the plugin. */
  #early: ReadonlySet<unknown> = new Set();
  /** The WebSocket routes of the servers with such routes. */
  #sockets: readonly SocketRoutes[] = [];
  /** Number of routes from which both were made. */
  #routes = -1;
  /** Patterns of WebSocket routes. */
  #socketPaths = new Set<string>();
  /** Number of routes from which these were made. */
  #counted = -1;
  #hook: unknown;

  constructor(scoping: GuardScoping) {
    this.scoping = scoping;
  }

  get isGlobal(): boolean {
    return this.scoping === 'global';
  }

  /**
   * Notes every instance that uses a plugin.
   * @param hook the plugin's hook of each route in scope
   */
  follow(plugin: object, hook: unknown): void {
    this.#hook = hook;
    followParents<ScopedApp>(plugin, (parent) => void this.#parents.add(parent));
  }

  /** A request whose route is in scope. */
  enter(request: Request): void {
    if (!this.isGlobal) (request as unknown as Marked)[this.#key] = true;
  }

  /** True for a request that Elysia has routed into the scope. */
  hasEntered(request: Request): boolean {
    return this.isGlobal || (request as unknown as Marked)[this.#key] === true;
  }

  /**
   * True if the socket of a request without an admission is the guard's: its route is in scope, or
   * belongs to an instance in scope and was registered before the plugin, which a promise easily brings about.
   */
  covers(request: Request): boolean {
    if (this.hasEntered(request)) return true;
    if (this.scoping === 'local') return false;
    const routes = this.#count((parent) => parent) + this.#count(rootOf);
    if (routes !== this.#routes) {
      this.#routes = routes;
      this.#learn();
    }
    // A socket whose route is not found may be anybody's: what was not judged is refused.
    return this.#sockets.some((sockets) => {
      const route = sockets.of(request.url);
      return route === undefined || this.#early.has(route.handler);
    });
  }

  /** Returns the number of routes of an app for each instance that uses the plugin. */
  #count(appOf: (parent: ScopedApp) => ScopedApp): number {
    let count = 0;
    for (const parent of this.#parents) count += appOf(parent).router.history.length;
    return count;
  }

  /** Learns which WebSocket routes of the instances were registered before the plugin. */
  #learn(): void {
    const isEarly = ({ method, hooks }: AppRoute): boolean =>
      method === 'WS' && !functionsOf(hooks.transform).includes(this.#hook);
    const parents = [...this.#parents];
    this.#early = new Set(
      parents.flatMap((parent) => parent.router.history.filter(isEarly).map((one) => one.handler)),
    );
    // A parent's prefix is part of the path in the server's own app only.
    this.#sockets = this.#roots()
      .filter((root) => root.router.history.some(({ handler }) => this.#early.has(handler)))
      .map((root) => new SocketRoutes(root));
  }

  /** The app of the server that has used the plugin last. */
  get root(): ScopedApp | undefined {
    const last = [...this.#parents].at(-1);
    return last === undefined ? undefined : rootOf(last);
  }

  /** The apps of the servers that the plugin is used in. */
  #roots(): readonly ScopedApp[] {
    return [...new Set([...this.#parents].map(rootOf))];
  }

  /** All routes of the servers that the plugin is used in. */
  routes(): readonly AppRoute[] {
    return this.#roots().flatMap((root) => root.router.history);
  }

  /**
   * True if Elysia has taken the WebSocket route of a pattern. With `upgrade: websocket`, letter for letter, Elysia prefers
   * that route to others of the pattern. With any other value it takes no WebSocket route.
   */
  tookSocketRoute({ headers }: Request, path: string): boolean {
    if (headers.get('upgrade') !== 'websocket') return false;
    const count = this.#count(rootOf);
    if (this.#counted !== count) {
      this.#counted = count;
      this.#learnSocketPaths();
    }
    return this.#socketPaths.has(path);
  }

  /** Learns the patterns of WebSocket routes, without those that another server of the plugin has for requests only. */
  #learnSocketPaths(): void {
    const all = this.#roots().map(({ router: { history } }) => {
      const sockets = history.filter(({ method }) => method === 'WS');
      return { history, sockets: new Set(sockets.map(({ path }) => path)) };
    });
    const others = all.flatMap(({ history, sockets }) =>
      history.map(({ path }) => path).filter((path) => !sockets.has(path)),
    );
    this.#socketPaths = new Set(all.flatMap(({ sockets }) => [...sockets]));
    for (const path of others) this.#socketPaths.delete(path);
  }

  /** True for a route that the plugin guards. */
  holds({ hooks }: AppRoute): boolean {
    return this.isGlobal || functionsOf(hooks.transform).includes(this.#hook);
  }
}
