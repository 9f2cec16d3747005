// Compiled, not run: with the DOM library, whose types of a body are the strictest.
import { ProductionMetrics, TimerManager } from 'portcullis';

const metrics = new ProductionMetrics({ timers: new TimerManager() });
const headers = { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' };
export const prometheus = async () => new Response(await metrics.toPrometheusBytes(), { headers });
export const openMetrics = async () =>
  new Response(await metrics.toOpenMetricsBytes({ naming: 'otel' }), { headers });
