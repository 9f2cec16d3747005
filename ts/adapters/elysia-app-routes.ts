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
    const start = url.indexOf('/', PATH_FROM);
    const query = url.indexOf('?', start + 1);
    // As Elysia reads it: from the beginning, where there is no slash.
    return this.#found.get(
      this.#entryOf(url.slice(Math.max(0, start), query < 0 ? undefined : query)),
    );
  }

  #entryOf(path: string): unknown {
    const { http, static: fixed } = this.app.router;
    const index = Object.hasOwn(fixed ?? {}, path) ? fixed?.[path]?.['WS'] : undefined;
    return index ?? http?.find?.('WS', path)?.store;
  }
}
