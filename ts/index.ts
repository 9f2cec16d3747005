export { ConnectionManager, ProductionConnectionManager } from './connections.js';
export type { AdmissionResult, ConnectionManagerOptions, ConnectionStats, Lease } from './connections.js';
export { ManagedConnection } from './connection.js';
export type { ConnectionMetadata, ManagedSocket, MetadataInput, ReceiveOutcome } from './connection.js';
export type { ConnectRate, ConnectionLimits, MessageRate, RateAction, Refusal, RefusalCode } from './limits.js';
export { PortcullisError, type ErrorCode, type ErrorDetails } from './errors.js';
export { TimerHandle, TimerManager } from './timers.js';
export type { CleanupResult, TimerManagerOptions, TimerOptions, TimerReport, TimerReportEntry } from './timers.js';
export type { Alarm, Clock } from './clock.js';
export type { TypedWebSocketConnection, TypedWebSocketHandler, TypedWebSocketMessage } from './types.js';
export { InputValidationError, ValidationFailure } from './validators/failure.js';
export type { FailureDetails, ProblemDetails, Validated } from './validators/failure.js';
export type { FailureCode } from './failures.js';
export { TokenVerifier, verifyJws } from './tokens.js';
export type {
  TokenClaims,
  TokenExplanation,
  TokenResult,
  TokenRevocation,
  TokenSchema,
  TokenSchemaResult,
  TokenVerifierOptions,
  TokenVerifierStats,
} from './tokens.js';
export type { TokenAlgorithm, TokenJwk, TokenJwkSet, TokenKey, TokenPem, TokenSecret } from './keys.js';
export type { JwksStats, RemoteJwks } from './jwks.js';
