/** Draining a Bun server, whose `stop(false)` does not resolve while a WebSocket is open. */
import { PortcullisError } from '../base/errors.js';
import type { Guard } from '../guard/guard.js';
import type { Drainable } from '../shutdown/drainable.js';

/** Bun's server, as far as draining needs it. @internal */
export interface BunServer {
  readonly pendingRequests: number;
  stop(closeActiveConnections?: boolean): Promise<void>;
}

/**
 * Returns a Bun server as a `Drainable`.
 * @param server returns the server, or `null` if it is not running
 * @param end stops the host in the place of the server's own `stop`
 * @internal
 */
export function bunDrainable(
  name: string,
  guard: Guard<Request>,
  server: () => BunServer | null,
  end?: () => Promise<void>,
): Drainable {
  let stopped: Promise<void> | undefined;
  return {
    name,
    notReady: () => guard.notReady(),
    drain() {
      guard.drain();
      // Resolves when the requests are answered and the WebSockets closed.
      stopped = server()?.stop(false);
    },
    requests: () => server()?.pendingRequests ?? 0,
    whenIdle: () => stopped ?? Promise.resolve(),
    sockets: () => guard.openSockets,
    watchSockets: (watcher) => guard.openSockets.watch(watcher),
    abort: () => guard.requests?.abort(),
    async stop() {
      guard.manager.close();
      const running = server();
      // With requests in flight `stop` would wait for them: those are left to `destroy`.
      if (running !== null && running.pendingRequests === 0)
        await (end === undefined ? running.stop(true) : end());
    },
    async destroy() {
      await (end === undefined ? server()?.stop(true) : end());
    },
  };
}

/** Throws ERR_UNSUPPORTED on other runtimes than Bun. @internal */
export function requireBun(what: string): void {
  if (process.versions['bun'] !== undefined) return;
  throw new PortcullisError(
    'ERR_UNSUPPORTED',
    `${what} needs Bun: on Node use portcullis/ws with an http server`,
    { field: what },
  );
}
