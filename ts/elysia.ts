/** What an application on Elysia needs: the plugin, and a whole server. */
import './runtime.js';
export { portcullis, portcullis as default, connectionOf } from './elysia-plugin.js';
export type { ElysiaGuard, ElysiaGuardOptions, StoppableApp } from './elysia-plugin.js';
export { ElysiaServerBuilder } from './builder.js';
export type {
  Endpoints,
  HeadersToSet,
  RequestContext,
  RunningServer,
  ServerConnection,
  ServerMiddleware,
  ServerOptions,
  ServerStats,
  WebSocketOptions,
} from './builder.js';
export type { BearerVerifier, TokenAuth } from './auth.js';
export type { GuardOptions, GuardStats } from './door.js';
export { signalOf } from './fetching.js';
