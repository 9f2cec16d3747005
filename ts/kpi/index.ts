/** Production metrics: recording, windows, report, exposition. */
export { ProductionMetrics, RequestTimer } from './metrics.js';
export type { RequestDetails, RequestEnd } from './metrics.js';
export type { ExpositionOptions } from './exposition.js';
export type { LatencyQuantiles } from './histogram.js';
export type { ProductionMetricsOptions } from './options.js';
export type * from './report.js';
export type { RouteFigures } from './series.js';
export type { WindowName } from './windows.js';
