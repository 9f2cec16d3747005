/** The guard of a bare `Bun.serve`. */
import './native/runtime.js';
export { connectionOf, portcullis } from './adapters/bun.js';
export type { BunGuard, BunGuardOptions } from './adapters/bun.js';
export type { GuardStats } from './guard/guard.js';
export { signalOf } from './http/fetch.js';
export type { HttpRefusal, RefusalAnswer, RefusalOptions } from './http/refusal-shape.js';
