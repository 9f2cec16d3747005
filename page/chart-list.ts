/** The charts of the page, in the order in which they are shown. */
import type { ChartOptions, Line } from './charts.js';
import { megabytes, milliseconds, number, percent } from './format.js';
import type { PageColumn } from '../ts/page/snapshot.js';

const line = (
  column: PageColumn,
  label: string,
  color: Line['color'],
  style?: Line['style'],
): Line => ({ column, label, color, style });

const chart = (
  id: string,
  title: string,
  options: Omit<ChartOptions, 'id' | 'title' | 'lines'>,
  ...lines: readonly Line[]
): ChartOptions => ({ id, title, lines, ...options });

export const CHARTS: readonly ChartOptions[] = [
  chart(
    'requests',
    'Requests per second',
    { source: 'metrics', format: number, least: 1 },
    line('requests', 'requests', '--a', 'filled'),
    line('errors', 'errors', '--critical-fill'),
  ),
  chart(
    'latency',
    'Latency',
    { source: 'metrics', format: milliseconds, least: 1 },
    line('p50', 'p50', '--b'),
    line('p95', 'p95', '--a'),
    line('p99', 'p99', '--c'),
  ),
  chart(
    'loop',
    'Event-loop delay',
    { source: 'monitor', format: milliseconds, least: 10, hasStallNote: true },
    line('loopP50', 'p50', '--b'),
    line('loopP99', 'p99', '--a'),
  ),
  chart(
    'memory',
    'Memory',
    { source: 'monitor', format: megabytes, least: 16 },
    line('memory', 'used', '--a', 'filled'),
    line('rss', 'rss', '--b'),
    line('memoryLimit', 'limit', '--critical-fill', 'dashed'),
  ),
  chart(
    'cpu',
    'CPU',
    { source: 'monitor', format: percent, least: 100 },
    line('cpu', 'process', '--a', 'filled'),
    line('jsThread', 'JS', '--c'),
    line('utilization', 'loop', '--b'),
  ),
  chart(
    'connections',
    'Connections',
    { source: 'connections', format: number, least: 10 },
    line('connections', 'open', '--a', 'filled'),
    line('admitted', 'new /s', '--b'),
    line('refused', 'refused /s', '--critical-fill'),
  ),
  chart(
    'messages',
    'Messages per second',
    { source: 'metrics', format: number, least: 1 },
    line('messagesIn', 'in', '--a', 'filled'),
    line('messagesOut', 'out', '--c'),
  ),
];
