/** The page: listens to the figures and shows them. */
import { Chart, type ChartOptions, Charts, Timeline } from './charts.js';
import { byId, say } from './dom.js';
import { megabytes, milliseconds, number, percent } from './format.js';
import { Heat } from './heat.js';
import { View } from './view.js';
import type { PageHistory, PageSnapshot } from '../ts/page/snapshot.js';

const CHARTS: readonly ChartOptions[] = [
  {
    id: 'requests',
    title: 'Requests per second',
    source: 'metrics',
    format: number,
    least: 1,
    lines: [
      { column: 'requests', label: 'requests', color: '--a', isFilled: true },
      { column: 'errors', label: 'errors', color: '--critical-fill' },
    ],
  },
  {
    id: 'latency',
    title: 'Latency',
    source: 'metrics',
    format: milliseconds,
    least: 1,
    lines: [
      { column: 'p50', label: 'p50', color: '--b' },
      { column: 'p95', label: 'p95', color: '--a' },
      { column: 'p99', label: 'p99', color: '--c' },
    ],
  },
  {
    id: 'loop',
    title: 'Event-loop delay',
    source: 'monitor',
    format: milliseconds,
    least: 10,
    hasStallNote: true,
    lines: [
      { column: 'loopP50', label: 'p50', color: '--b' },
      { column: 'loopP99', label: 'p99', color: '--a' },
    ],
  },
  {
    id: 'memory',
    title: 'Memory',
    source: 'monitor',
    format: megabytes,
    least: 16,
    lines: [
      { column: 'memory', label: 'used', color: '--a', isFilled: true },
      { column: 'rss', label: 'rss', color: '--b' },
      { column: 'memoryLimit', label: 'limit', color: '--critical-fill', isDashed: true },
    ],
  },
  {
    id: 'cpu',
    title: 'CPU',
    source: 'monitor',
    format: percent,
    least: 100,
    lines: [
      { column: 'cpu', label: 'process', color: '--a', isFilled: true },
      { column: 'jsThread', label: 'JS', color: '--c' },
      { column: 'utilization', label: 'loop', color: '--b' },
    ],
  },
  {
    id: 'connections',
    title: 'Connections',
    source: 'connections',
    format: number,
    least: 10,
    lines: [
      { column: 'connections', label: 'open', color: '--a', isFilled: true },
      { column: 'admitted', label: 'new /s', color: '--b' },
      { column: 'refused', label: 'refused /s', color: '--critical-fill' },
    ],
  },
  {
    id: 'messages',
    title: 'Messages per second',
    source: 'metrics',
    format: number,
    least: 1,
    lines: [
      { column: 'messagesIn', label: 'in', color: '--a', isFilled: true },
      { column: 'messagesOut', label: 'out', color: '--c' },
    ],
  },
];
const SILENT_MS = 3500;
const AGAIN_MS = 2000;

const timeline = new Timeline();
const charts = CHARTS.map((options) => new Chart(options, timeline));
const all = new Charts(charts);
const heat = new Heat();
const view = new View();
let latest: PageSnapshot | undefined;
let heardAt = performance.now();
let isPaused = false;

function show(): void {
  if (latest === undefined || isPaused) return;
  view.show(latest);
  const fed = {
    metrics: latest.requests !== null,
    monitor: latest.loop !== null,
    connections: true,
  };
  charts.forEach((chart, index) => chart.feed(fed[CHARTS[index]!.source]));
  heat.feed(fed.metrics);
  all.draw();
  heat.draw(timeline.spanS);
}

function link(state: 'live' | 'lost' | 'paused' | 'connecting', text: string): void {
  document.body.dataset['link'] = state;
  say(byId('link-text'), text);
}

function heard(snapshot: PageSnapshot): void {
  heardAt = performance.now();
  latest = snapshot;
  timeline.push(snapshot.row);
  heat.push(snapshot.at, snapshot.heat);
  for (const stall of snapshot.stalls)
    if (!timeline.stalls.some(({ startedAt }) => startedAt === stall.startedAt))
      timeline.stalls.push(stall);
  timeline.stalls = timeline.stalls.slice(-64);
  link(isPaused ? 'paused' : 'live', isPaused ? 'Paused' : 'Live');
  // A page that nobody sees need not be drawn.
  if (!document.hidden) show();
}

function listen(): void {
  const feed = new EventSource(`${location.pathname.replace(/\/$/, '')}/events`);
  feed.addEventListener('history', ({ data }) => {
    const history = JSON.parse(String(data)) as PageHistory;
    timeline.reset(history);
    heat.reset(history);
  });
  feed.addEventListener('snapshot', ({ data }) => heard(JSON.parse(String(data)) as PageSnapshot));
  feed.addEventListener('error', () => {
    // A browser comes back by itself after a stream that ends, but not after a refusal.
    if (feed.readyState !== EventSource.CLOSED) return;
    setTimeout(listen, AGAIN_MS);
  });
}

setInterval(() => {
  const silentMs = performance.now() - heardAt;
  if (silentMs > SILENT_MS)
    link('lost', `No data for ${Math.round(silentMs / 1000)} s: gone, or its loop is blocked`);
}, 1000);

function pause(): void {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  say(byId('pause'), isPaused ? 'Resume' : 'Pause');
  link(isPaused ? 'paused' : 'live', isPaused ? 'Paused' : 'Live');
  show();
}

byId('pause').addEventListener('click', pause);
document.addEventListener('keydown', ({ key, ctrlKey, metaKey, altKey }) => {
  if ((key === 'p' || key === 'P') && !ctrlKey && !metaKey && !altKey) pause();
});
document.addEventListener('visibilitychange', show);
for (const button of document.querySelectorAll<HTMLButtonElement>('[data-span]')) {
  button.addEventListener('click', () => {
    timeline.spanS = Number(button.dataset['span']);
    for (const other of document.querySelectorAll('[data-span]'))
      other.setAttribute('aria-pressed', String(other === button));
    all.draw();
    heat.draw(timeline.spanS);
  });
}
listen();
