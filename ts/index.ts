import './native/runtime.js';
export { ConnectionManager, ProductionConnectionManager } from './connections/manager.js';
export type { ConnectionStats, HostCounts } from './connections/stats.js';
export type { AdmissionResult, Lease } from './connections/lease.js';
export type { BanOptions } from './connections/ban-options.js';
export type { Ban, BanCause, BanStats, ConnectionManagerEvents } from './connections/ban.js';
export type { ConnectionManagerOptions } from './connections/options.js';
export type { RequestTrace } from './base/trace.js';
export { ManagedConnection } from './connections/connection.js';
export type { ManagedSocket, ReceiveOutcome } from './connections/connection.js';
export type { ConnectionMetadata, MetadataInput } from './connections/metadata.js';
export type { Refusal, RefusalCode, TracedRefusal } from './connections/refusal.js';
export type { ConnectionLimits } from './connections/limits.js';
export { Cluster } from './cluster/cluster.js';
export type { ClusterEvents, ClusterMember } from './cluster/cluster.js';
export { ClusterLimiter } from './cluster/limiter.js';
export type { ClusterLimiterOptions, ClusterLimiterResult } from './cluster/limiter.js';
export type { ClusterOptions, ClusterTlsOptions } from './cluster/options.js';
export type { ClusterNode, OnlineUsers, UserNode } from './cluster/presence.js';
export type { ClusterManagerStats, ClusterState, ClusterStats } from './cluster/stats.js';
export { CompositeRateLimiter, RateLimiter } from './limiter/limiter.js';
export type { CompositeRateLimitResult } from './limiter/limiter.js';
export type { RateAlgorithm, RateLimit, RateLimiterOptions } from './limiter/options.js';
export type { RefusedKey } from './limiter/refused-keys.js';
export type {
  RateLimiterEvents,
  RateLimiterStats,
  RateLimitRefusal,
  RateLimitResult,
} from './limiter/result.js';
export type {
  RateHeaders,
  RateRefusal,
  RateScope,
  RequestLimitsInput,
  RequestRate,
  RequestRates,
} from './http/rate-options.js';
export type {
  RateExplanation,
  RateQuestion,
  RateRefusalCode,
  RequestRateStats,
} from './http/request-rates.js';
export type { ConnectRate, MessageRate, RateAction } from './connections/connect-rates.js';
export {
  PortcullisError,
  UnauthorizedError,
  type ErrorCode,
  type ErrorDetails,
} from './base/errors.js';
export { TimerHandle } from './timers/handle.js';
export { TimerManager } from './timers/manager.js';
export type { CleanupResult, TimerSnapshot, TimerSnapshotEntry } from './timers/snapshot.js';
export type { TimerManagerOptions, TimerOptions } from './timers/options.js';
export type { Clock, ClockAlarm } from './base/clock.js';
export type {
  TypedWebSocketConnection,
  TypedWebSocketHandler,
  TypedWebSocketMessage,
} from './messages/types.js';
export { MiddlewareChain, PerformantMiddlewareChain } from './middleware/chain.js';
export type {
  BreakerOptions,
  ChainSnapshot,
  CompiledChain,
  FinalNext,
  LayerSnapshot,
  MiddlewareChainOptions,
  MiddlewareContext,
  MiddlewareFunction,
  MiddlewareItem,
  MiddlewareNext,
  MiddlewareObject,
  MiddlewareResult,
  StrayError,
} from './middleware/contract.js';
export type { MiddlewareTrace } from './middleware/observe.js';
export { resourceLimits } from './resources/resource-limits.js';
export type {
  ConnectionCaps,
  MemoryLimits,
  MemoryLimitsInput,
  RequestLimits,
  ResourceLimits,
  ResourceLimitsInput,
  WebSocketLimits,
  WebSocketLimitsInput,
} from './resources/resource-limits.js';
export { clientAddress } from './guard/client-address.js';
export type { RequestHeaders } from './guard/client-address.js';
export { LivePage } from './page/live-page.js';
export type { PageOptions } from './page/live-page.js';
export type { PageSnapshot } from './page/snapshot.js';
export { GracefulShutdown } from './shutdown/shutdown.js';
export type { HealthAnswer } from './shutdown/health.js';
export type { CheckOutcome, ReadinessCheck, ReportsClusterState } from './shutdown/readiness.js';
export type { ShutdownContext, ShutdownHook } from './shutdown/hooks.js';
export type { ShutdownOptions } from './shutdown/options.js';
export type { Drainable } from './shutdown/drainable.js';
export type {
  ShutdownError,
  ShutdownLeftover,
  ShutdownPhase,
  ShutdownResult,
} from './shutdown/result.js';
export { MessageRouter } from './messages/router.js';
export type {
  ExceededTypeRate,
  MessageHandler,
  MessageReply,
  MessageRouterOptions,
  MessageStats,
  MessageTypeOptions,
} from './messages/router.js';
export type { MessageRateKey, MessageTypeRate } from './messages/type-rate.js';
export type { MessageSender, Outgoing, ParseResult } from './messages/envelope.js';
export type { MessageProblem, MessageProblemCode } from './messages/problem.js';
export { InputValidationError, ValidationFailure } from './validators/failure.js';
export type { FailureDetails, ProblemDetails, ValidationResult } from './validators/failure.js';
export type { FailureCode } from './validators/failure-codes.js';
export { parseJson, safeParseJson, scanJson } from './validators/json.js';
export type { JsonInput, JsonReport } from './validators/json.js';
export type { JsonLeniency, JsonLimits } from './validators/json-limits.js';
export { InputValidator } from './validators/validator.js';
export type { DroppedHeader, HeaderReport, HeaderValues } from './validators/header-collector.js';
export type { HeaderLimits } from './validators/header-limits.js';
export { isPublicAddress } from './validators/host.js';
export type { UrlFlag } from './validators/host.js';
export type { JudgedUrl } from './validators/url.js';
export type { UrlMode, UrlOptions } from './validators/url-options.js';
export {
  headersSchema,
  jsonSchema,
  payloadSchema,
  tokenSchema,
  urlSchema,
} from './validators/schema.js';
export type {
  InputSchema,
  InputSchemaAnswer,
  InputSchemaIssue,
  InputSchemaResult,
} from './validators/schema.js';
export { TokenVerifier } from './tokens/verifier.js';
export { verifyJws } from './tokens/jws.js';
export type {
  TokenClaims,
  TokenExplanation,
  TokenResult,
  TokenRevocation,
  TokenVerifierSnapshot,
} from './tokens/result.js';
export type {
  TokenAlgorithm,
  TokenJwk,
  TokenJwkSet,
  TokenKey,
  TokenPem,
  TokenSecret,
} from './tokens/keys.js';
export type { TokenVerifierOptions } from './tokens/policy.js';
export type { JwksSnapshot } from './tokens/jwks.js';
export type { JwksFetch, RemoteJwks } from './tokens/jwks-options.js';
export type { ClaimMatcher } from './tokens/claim-rules.js';
export type { ReplayOptions } from './tokens/replay.js';
export { ResourceMonitor } from './resources/monitor.js';
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
  StalledRequest,
  StateChange,
} from './resources/figures.js';
export type {
  PressureCause,
  PressureCheck,
  PressureFigures,
  PressureLimit,
} from './resources/pressure.js';
export type {
  CountsConnections,
  ResourceLog,
  ResourceMonitorOptions,
} from './resources/options.js';
export { ProductionMetrics } from './metrics/metrics.js';
export { RequestTimer } from './metrics/request.js';
export type { RequestDetails, RequestEnd } from './metrics/request.js';
export type { ExpositionBytesOptions, ExpositionOptions } from './metrics/exposition.js';
export { Counter, Gauge, Histogram } from './metrics/instruments.js';
export type { CounterSeries, GaugeSeries, HistogramSeries } from './metrics/series.js';
export type { LabelValue, LabelValues } from './metrics/instrument.js';
export type { HistogramOptions, InstrumentOptions } from './metrics/instrument-registry.js';
export type {
  HighResolutionTime,
  HistogramValue,
  MetricPoint,
  OpenTelemetryProducer,
  ProducedMetric,
  ProducedMetrics,
  ProducedResource,
} from './metrics/open-telemetry.js';
export type { MergeOptions, MetricRegistry } from './metrics/merged-registries.js';
export type { ProductionMetricsOptions } from './metrics/options.js';
export type * from './metrics/report.js';
export type { TokenRefresh } from './connections/connection-token.js';
