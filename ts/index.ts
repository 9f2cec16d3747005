import './runtime.js';
export { ConnectionManager, ProductionConnectionManager } from './connections.js';
export type { AdmissionResult, ConnectionManagerOptions, ConnectionStats, Lease } from './connections.js';
export { ManagedConnection } from './connection.js';
export type { ConnectionMetadata, ManagedSocket, MetadataInput, ReceiveOutcome } from './connection.js';
export type { ConnectRate, ConnectionLimits, MessageRate, RateAction, Refusal, RefusalCode } from './limits.js';
export { PortcullisError, UnauthorizedError, type ErrorCode, type ErrorDetails } from './errors.js';
export { TimerHandle, TimerManager } from './timers.js';
export type { CleanupResult, TimerManagerOptions, TimerOptions, TimerReport, TimerReportEntry } from './timers.js';
export type { Alarm, Clock } from './clock.js';
export type { TypedWebSocketConnection, TypedWebSocketHandler, TypedWebSocketMessage } from './types.js';
export { MiddlewareChain, PerformantMiddlewareChain } from './middleware/chain.js';
export type {
  BreakerOptions,
  ChainReport,
  CompiledChain,
  FinalNext,
  LayerReport,
  LayerTimes,
  MiddlewareChainOptions,
  MiddlewareContext,
  MiddlewareFunction,
  MiddlewareItem,
  MiddlewareObject,
  MiddlewareResult,
  Next,
  StrayError,
} from './middleware/contract.js';
export type { MiddlewareTrace } from './middleware/run.js';
export { resourceLimits } from './resource-limits.js';
export type { ConnectionCaps, MemoryLimits, RequestLimits, ResourceLimits, ResourceLimitsInput, WebSocketLimits } from './resource-limits.js';
export { LivePage } from './page/live-page.js';
export type { PageOptions } from './page/live-page.js';
export type { PageSources } from './page/recorder.js';
export type * from './page/snapshot.js';
export { GracefulShutdown } from './shutdown.js';
export type {
  HealthAnswer,
  ShutdownContext,
  ShutdownError,
  ShutdownHook,
  ShutdownLeftover,
  ShutdownOptions,
  ShutdownPart,
  ShutdownPhase,
  ShutdownResult,
  ShutdownSocket,
  SocketWatcher,
} from './shutdown.js';
export { MessageRouter, isProblem } from './messages.js';
export type { MessageHandler, MessageProblem, MessageProblemCode, MessageRouterOptions, MessageStats, Outgoing, Reply } from './messages.js';
export { InputValidationError, ValidationFailure } from './validators/failure.js';
export type { FailureDetails, ProblemDetails, Validated } from './validators/failure.js';
export type { FailureCode } from './failures.js';
export { parseJson, safeParseJson, scanJson } from './validators/json.js';
export type { JsonInput, JsonLimits, JsonReport, Leniency } from './validators/json.js';
export { InputValidator } from './validators/validator.js';
export type { DroppedHeader, HeaderLimits, HeaderReport, HeaderValues } from './validators/headers.js';
export { isPublicAddress } from './validators/url.js';
export type { JudgedUrl, UrlFlag, UrlMode, UrlOptions } from './validators/url.js';
export { headersSchema, jsonSchema, payloadSchema, tokenSchema, urlSchema } from './validators/schema.js';
export type { Schema, SchemaIssue, SchemaResult } from './validators/schema.js';
export { TokenVerifier, verifyJws } from './tokens.js';
export type { TokenClaims, TokenExplanation, TokenResult, TokenRevocation, TokenSchema, TokenSchemaResult, TokenVerifierStats } from './tokens.js';
export type { TokenAlgorithm, TokenJwk, TokenJwkSet, TokenKey, TokenPem, TokenSecret } from './keys.js';
export type { TokenVerifierOptions } from './policy.js';
export type { JwksStats, RemoteJwks } from './jwks.js';
export { ResourceMonitor } from './resources.js';
export type {
  CollectionRecord,
  DelayQuantiles,
  MemoryLimit,
  PressureStall,
  ResourceAges,
  ResourceMetrics,
  ResourceSnapshot,
  ResourceState,
  Stall,
  StallCause,
  StateChange,
} from './resource-figures.js';
export type { ResourceLog, ResourceMonitorOptions } from './resource-options.js';
export * from './kpi/index.js';
