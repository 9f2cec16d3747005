/** The Elysia app of every server: the guard, the endpoints, the WebSocket route. */
import { Elysia, ElysiaCustomStatusResponse } from 'elysia';
import { isThenable } from '../base/hooks.js';
import { connectionOf, pluginOf } from '../adapters/elysia.js';
import { payloadLimitOf } from '../adapters/socket.js';
// Both by name: the inferred type of the app shows them, and its declaration has to import them.
import type { ManagedConnection, ManagedSocket } from '../connections/connection.js';
import { responseOf } from '../http/fetch.js';
import type { MessageReply } from '../messages/router.js';
import { type Connection, sendText } from './connection.js';
import type { ElysiaAnswer, RequestContext } from './context.js';
import {
  LIVE_PATH,
  READY_PATH,
  type ServerOptions,
  STARTUP_PATH,
  STATS_PATH,
  WEBSOCKET_PATH,
} from './options.js';
import type { ServerParts } from './server-parts.js';

/** Bytes that Bun accepts above the guard's own limit of bodies. */
const BODY_SLACK = 2 ** 20;
/** Longest idle timeout of Bun, seconds. */
const IDLE_MAX_S = 255;

/**
 * True for what a route throws as its answer: a status of Elysia, a response, and an error with a status below 500 of
 * its own, as all errors of Elysia about a request have. Any error may have a `code`, so it says nothing.
 */
function isForClient(thrown: unknown): boolean {
  if (thrown instanceof ElysiaCustomStatusResponse || thrown instanceof Response) return true;
  const { status } = thrown as { readonly status?: unknown };
  return typeof status === 'number' && status < 500;
}

/** True for a value of a route that Elysia sends as text. */
function isText(value: unknown): boolean {
  if (value instanceof ElysiaCustomStatusResponse) return isText(value.response);
  return ['string', 'number', 'boolean'].includes(typeof value) || value instanceof String;
}

/**
 * Makes the app; its type is inferred by Elysia, and one chain of calls beyond forty lines keeps it so.
 * @param inner the `ServerParts`; typed `object`, since the public declarations show this function's parameters
 */
export function baseApp(inner: object, options: ServerOptions) {
  const parts = inner as ServerParts;
  const { requests, websockets } = parts.limits;
  const idle =
    requests.timeoutMs === Infinity
      ? IDLE_MAX_S
      : Math.min(IDLE_MAX_S, Math.ceil(requests.timeoutMs / 1000) + 5);
  const socket = options.websocket ?? {};
  const app = new Elysia({
    serve: {
      // Without it, two servers would share a port silently. The guard's limit of bodies is exact, answers and
      // counts; Bun's limit, which does neither, covers bodies that no handler reads.
      reusePort: false,
      idleTimeout: idle,
      // Bun calls this for a response that it cannot send, such as one that was sent before. Its own answer could show
      // the source.
      error: (error: unknown) => parts.unsent(error),
      ...(requests.maxPayloadSize === Infinity
        ? {}
        : { maxRequestBodySize: requests.maxPayloadSize + BODY_SLACK }),
      ...(options.hostname === undefined ? {} : { hostname: options.hostname }),
    },
    websocket: {
      // Ours are jittered, and count the clients that do not answer.
      sendPings: false,
      idleTimeout: 0,
      ...(websockets.maxMessageSize === Infinity
        ? {}
        : { maxPayloadLength: payloadLimitOf(websockets.maxMessageSize) }),
    },
  })
    .use(
      pluginOf(
        parts.guard,
        (request, handle, host) => parts.around(request, handle, host),
        'global',
        1,
      ),
    )
    .onError({ as: 'global' }, function ({ error, request }) {
      // Elysia reads the source of hooks: it would make every field of a context that is named as a whole.
      if (!isForClient(error)) parts.thrown(request, error, arguments[0] as ElysiaAnswer);
    })
    .mapResponse({ as: 'global' }, ({ request, responseValue }) => {
      if (isText(responseValue)) parts.answersText(request);
    })
    .derive({ as: 'global' }, ({ request }) => ({
      requestContext: parts.contexts.get(request) as RequestContext | undefined,
    }));
  const healthy = app
    .get(LIVE_PATH, ({ status }) =>
      parts.endpoints.live ? responseOf(parts.shutdown.liveness()) : status(404),
    )
    .get(READY_PATH, async ({ status }) =>
      parts.endpoints.ready ? responseOf(await parts.shutdown.checkReadiness()) : status(404),
    )
    .get(STARTUP_PATH, async ({ status }) =>
      parts.endpoints.startup ? responseOf(await parts.shutdown.checkStartup()) : status(404),
    )
    .get(STATS_PATH, ({ status }) => (parts.endpoints.stats ? parts.snapshot() : status(404)));
  if (socket.enabled === false) return healthy;
  const { handler = {} } = socket;
  const failed = async (
    connection: Connection,
    managed: ManagedConnection,
    error: unknown,
  ): Promise<void> => {
    parts.onError(error, 'websocket', managed.trace);
    await handler.error?.(connection, error instanceof Error ? error : new Error(String(error)));
  };
  /** Runs a handler; its error leaves the socket open. */
  const safely = async (
    ws: object,
    run: (connection: Connection, managed: ManagedConnection<ManagedSocket>) => unknown,
  ): Promise<void> => {
    const managed = connectionOf(ws);
    if (managed === undefined) return;
    const connection = parts.connection(managed);
    try {
      await run(connection, managed);
    } catch (error) {
      await failed(connection, managed, error).catch((second: unknown) =>
        parts.onError(second, 'websocket', managed.trace),
      );
    }
  };
  const reply = (connection: Connection, answer: MessageReply | undefined): void => {
    if (answer === undefined || !connection.isAlive) return;
    sendText(connection.socket, answer.text);
    if (
      answer.problem !== undefined &&
      answer.problem.code !== 'handler_failed' &&
      socket.onInvalid === 'close'
    ) {
      connection.close(1007, answer.problem.message);
    }
  };
  return healthy.ws((socket.path ?? WEBSOCKET_PATH) as typeof WEBSOCKET_PATH, {
    open: (ws) => safely(ws, (connection) => handler.open?.(connection)),
    message: (ws, raw) =>
      safely(ws, (connection, managed) => {
        // Elysia has parsed the message. If it was a string, the router parses that as JSON again: so
        // it is judged again, or JSON within a string would pass the limits at any depth.
        if (typeof raw === 'string' && !parts.guard.jsonFilter.admits(raw, managed, true))
          return undefined;
        const answer = parts.router.receive(raw, connection, {
          userId: connection.userId,
          sessionId: connection.metadata.sessionId,
        });
        return isThenable(answer)
          ? answer.then((late) => reply(connection, late))
          : reply(connection, answer);
      }),
    close: (ws, code, reason) =>
      safely(ws, (connection) => handler.close?.(connection, code, reason)),
  }) as unknown as typeof healthy;
}

export type BaseApp = ReturnType<typeof baseApp>;
