/** What an application on Elysia needs: the plugin, and a whole server. */
import './runtime.js';
export { portcullis, portcullis as default, connectionOf } from './elysia-plugin.js';
export type { ElysiaGuard, ElysiaGuardOptions, StoppableApp } from './elysia-plugin.js';
export { ElysiaServerBuilder } from './builder/builder.js';
export type { RunningServer } from './builder/builder.js';
export type { ServerConnection } from './builder/connection.js';
export type { HeadersToSet, RequestContext, ServerMiddleware } from './builder/context.js';
export type { Endpoints, ServerOptions, WebSocketOptions } from './builder/options.js';
export type { ServerStats } from './builder/parts.js';
export type { BearerVerifier, TokenAuth } from './auth.js';
export type { GuardOptions, GuardStats } from './door.js';
export { signalOf } from './fetching.js';
