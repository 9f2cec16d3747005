/** The largest message of Elysia on Bun, which the host refuses before it has arrived whole. */
import { followParents } from './elysia-parents.js';
import { payloadLimitOf } from './socket.js';

/** An app, as far as the options of its server's WebSockets go. */
interface ConfiguredApp {
  readonly config?: { websocket?: { readonly maxPayloadLength?: number } | undefined };
}

/**
 * Sets the limit of the servers of all apps that take a plugin; a lower one of the app stays. It replaces Bun's default
 * of 16 MiB, too. Elysia reads it when the app begins to listen.
 * @internal
 */
export function limitPayloads(plugin: object, maxBytes: number): void {
  if (maxBytes === Infinity) return;
  followParents<ConfiguredApp>(plugin, (app) => {
    const { config } = app;
    if (config !== undefined) {
      const maxPayloadLength = payloadLimitOf(maxBytes, config.websocket?.maxPayloadLength);
      config.websocket = { ...config.websocket, maxPayloadLength };
    }
    limitPayloads(app, maxBytes);
  });
}
