/** The routes of an Elysia app, as far as Elysia's types hide them. */

/** A route of an app, as far as a guard reads it. @internal */
export interface AppRoute {
  readonly method: string;
  readonly path: string;
  readonly handler: unknown;
  readonly hooks: {
    readonly transform?: unknown;
    readonly beforeHandle?: unknown;
    detail?: { hide?: boolean; responses?: Record<string, unknown> } & Record<string, unknown>;
    response?: unknown;
  };
}

/** The part of an Elysia app that Elysia's types hide. @internal */
export interface ScopedApp {
  getParent(): ScopedApp | null;
  readonly router: {
    readonly history: readonly AppRoute[];
    /** Routes without parameters: indices of `history`, by path and method. */
    readonly static?: Readonly<Record<string, Readonly<Record<string, unknown>> | undefined>>;
    /** Routes with parameters. */
    readonly http?: { find?(method: string, path: string): { readonly store: unknown } | null };
  };
}

/** Returns the functions of a list of hooks, as Elysia keeps it. @internal */
export function functionsOf(hooks: unknown): readonly unknown[] {
  return Array.isArray(hooks)
    ? hooks.map((entry: unknown) => (entry as { readonly fn?: unknown } | null)?.fn)
    : [];
}

/** The lowest index from which Elysia searches a URL for its path. */
const PATH_FROM = 11;
/** The lowest index at which the path of an absolute URL begins: that of `http://h`. */
const SHORTEST_ORIGIN = 8;

/** Returns path and query of a URL as Elysia reads them; `undefined` if it finds no slash. @internal */
export function routedTarget(url: string): string | undefined {
  const start = url.indexOf('/', PATH_FROM);
  return start === -1 ? undefined : url.slice(start);
}

/** Returns the path of a target, without its query. @internal */
export function pathOfTarget(target: string): string {
  const query = target.indexOf('?', 1);
  return query === -1 ? target : target.slice(0, query);
}

/**
 * True if Elysia, or a router that its handler calls, may take the path of a URL from another slash than the server:
 * of one whose host is short, and of one that Bun leaves relative, for want of a valid `Host`. `/healthz?ab/users` is
 * `/users` to Elysia's router, and `/x?/users` to Hono's. @internal
 */
export function isMisread(url: string): boolean {
  return url.startsWith('/')
    ? url.indexOf('/', 1) !== -1
    : url.indexOf('/', SHORTEST_ORIGIN) !== url.indexOf('/', PATH_FROM);
}

/** Finds the WebSocket routes of an app as Elysia does, by Elysia's own router. @internal */
export class SocketRoutes {
  /** Routes by their entry in the router: an index of the app's routes, or an object of the router. */
  readonly #found = new Map<unknown, AppRoute>();

  constructor(readonly app: ScopedApp) {
    for (const route of app.router.history)
      if (route.method === 'WS') this.#found.set(this.#entryOf(route.path), route);
  }

  /** Returns the route of a URL; `undefined` if there is none, or if Elysia's router is not as it was. */
  of(url: string): AppRoute | undefined {
    const target = routedTarget(url);
    return target === undefined ? undefined : this.#found.get(this.#entryOf(pathOfTarget(target)));
  }

  #entryOf(path: string): unknown {
    const { http, static: fixed } = this.app.router;
    const index = Object.hasOwn(fixed ?? {}, path) ? fixed?.[path]?.['WS'] : undefined;
    return index ?? http?.find?.('WS', path)?.store;
  }
}
