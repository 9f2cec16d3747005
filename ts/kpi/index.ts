/** Production metrics: recording, windows, report, exposition. */
export { ProductionMetrics } from './metrics.js';
export { RequestTimer } from './request.js';
export type { RequestDetails, RequestEnd } from './request.js';
export type { ExpositionOptions } from './exposition.js';
export type { ProductionMetricsOptions } from './options.js';
export type * from './report.js';
