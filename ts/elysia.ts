/** What an application on Elysia needs: the plugin, and a whole server. */
import './native/runtime.js';
export { portcullis, portcullis as default, connectionOf } from './adapters/elysia.js';
export { guarded } from './adapters/elysia-node.js';
export type { ElysiaGuard, ElysiaGuardOptions, StoppableApp } from './adapters/elysia.js';
export type { RouteGuardOptions, RouteRate } from './adapters/elysia-route-options.js';
export type { GuardScoping } from './adapters/elysia-scope.js';
export { ElysiaServerBuilder } from './builder/builder.js';
export type { RunningServer } from './builder/builder.js';
export type { ServerConnection } from './builder/connection.js';
export type { HeadersToSet, RequestContext, ServerMiddleware } from './builder/context.js';
export type {
  Endpoints,
  ServerOptions,
  ServerRates,
  ServerRequests,
  WebSocketOptions,
} from './builder/options.js';
export type { ServerStats } from './builder/server-parts.js';
export type { BearerVerifier, TokenAuth } from './guard/bearer.js';
export type { GuardStats } from './guard/guard.js';
export type { GuardOptions } from './guard/options.js';
export { signalOf } from './http/fetch.js';
export type { HttpRefusal, RefusalAnswer, RefusalOptions } from './http/refusal-shape.js';
