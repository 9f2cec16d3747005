export * from './connections.js';
export { PortcullisError, type ErrorCode, type ErrorDetails } from './errors.js';
export { TimerHandle, TimerManager } from './timers.js';
export type { CleanupResult, TimerManagerOptions, TimerOptions, TimerReport, TimerReportEntry } from './timers.js';
export type { Alarm, Clock } from './clock.js';
export type { TypedWebSocketConnection, TypedWebSocketHandler, TypedWebSocketMessage } from './types.js';
