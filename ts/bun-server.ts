/** The end of a Bun server, whose `stop(false)` does not resolve while a WebSocket is open. */
import type { Door } from './door.js';
import type { ShutdownPart } from './shutdown/part.js';

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
export function bunPart(
  name: string,
  door: Door<Request>,
  server: () => BunServer | null,
  end?: () => Promise<void>,
): ShutdownPart {
  let stopped: Promise<void> | undefined;
  return {
    name,
    drain() {
      door.drain();
      // Resolves when the requests are over and the WebSockets closed.
      stopped = server()?.stop(false);
    },
    requests: () => server()?.pendingRequests ?? 0,
    whenIdle: () => stopped ?? Promise.resolve(),
    sockets: () => door.live,
    watchSockets: (watcher) => door.live.watch(watcher),
    abort: () => door.gate?.abort(),
    async stop() {
      door.manager.cleanup();
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
