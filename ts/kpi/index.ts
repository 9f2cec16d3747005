/** Production metrics: recording, windows, report, exposition. */
export { ProductionMetrics, RequestTimer } from './metrics.js';
export type { RequestDetails, RequestEnd } from './metrics.js';
export type { ExpositionOptions } from './exposition.js';
export type { ProductionMetricsOptions } from './options.js';
export type * from './report.js';
