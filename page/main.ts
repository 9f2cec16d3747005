/** Receives the figures and shows them. */
import { CHARTS } from './chart-list.js';
import { Chart, Charts, Timeline } from './charts.js';
import { byId, say } from './dom.js';
import { Heat } from './heat.js';
import { View } from './view.js';
import type { PageHistory, PageSnapshot } from '../ts/page/snapshot.js';

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

function draw(): void {
  all.draw();
  heat.draw(timeline.spanS);
}

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
  draw();
}

function link(state: 'live' | 'lost' | 'paused', text: string): void {
  document.body.dataset['link'] = state;
  say(byId('link-text'), text);
}

function linkUp(): void {
  if (isPaused) link('paused', 'Paused');
  else link('live', 'Live');
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
  linkUp();
  // A hidden page is not drawn.
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
    // A browser reconnects after the end of a stream, but not after a refusal.
    if (feed.readyState !== EventSource.CLOSED) return;
    setTimeout(listen, AGAIN_MS);
  });
}

setInterval(() => {
  const silentMs = performance.now() - heardAt;
  if (silentMs > SILENT_MS)
    link(
      'lost',
      `No data for ${Math.round(silentMs / 1000)} s: the server is gone, or its event loop is blocked`,
    );
}, 1000);

function pause(): void {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  say(byId('pause'), isPaused ? 'Resume' : 'Pause');
  linkUp();
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
    draw();
  });
}
listen();
