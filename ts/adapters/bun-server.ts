/** The end of a Bun server, whose `stop(false)` does not resolve while a WebSocket is open. */
import { PortcullisError } from '../base/errors.js';
import type { Guard } from '../guard/guard.js';
import type { Drainable } from '../shutdown/drainable.js';

/** Bun's server, as far as it is used here. @internal */
export interface BunServer {
  readonly pendingRequests: number;
  stop(closeActiveConnections?: boolean): Promise<void>;
}

/**
 * @param server the server, or `null` if it is not running
 * @param end what the host does besides, when the server has stopped
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
    drain() {
      guard.drain();
      // Resolves when the requests are over and the WebSockets closed.
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
      // With requests in flight it would wait for them: that is `destroy`'s.
      if (running !== null && running.pendingRequests === 0)
        await (end === undefined ? running.stop(true) : end());
    },
    async destroy() {
      await (end === undefined ? server()?.stop(true) : end());
    },
  };
}

/** Refuses a runtime that the adapter cannot serve. @internal */
export function requireBun(what: string): void {
  if (process.versions['bun'] !== undefined) return;
  throw new PortcullisError(
    'ERR_UNSUPPORTED',
    `${what} needs Bun: on Node use portcullis/ws with an http server`,
    { field: what },
  );
}
