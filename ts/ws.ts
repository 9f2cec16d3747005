/** The guard of `ws` servers. */
import './native/runtime.js';
export { connectionOf, portcullis } from './adapters/ws.js';
export type { AttachOptions } from './adapters/upgrade-router.js';
export type { WsGuard, WsGuardOptions } from './adapters/ws.js';
export type { GuardStats } from './guard/guard.js';
export { signalOf } from './http/node.js';
export type { HttpRefusal, RefusalAnswer, RefusalOptions } from './http/refusal-shape.js';
