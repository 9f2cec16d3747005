/** The guard of Socket.IO servers. */
import './native/runtime.js';
export { connectionOf, portcullis } from './adapters/socket.io.js';
export type { SocketIoGuard, SocketIoGuardOptions, SocketIoServer } from './adapters/socket.io.js';
export type { GuardStats } from './guard/guard.js';
export { signalOf } from './http/node.js';
