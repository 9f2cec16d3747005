// Builds what is stale, starts the demo server on Bun with some traffic, and says where its page is.
// `npm start -- --load 500` opens so many real clients.
import { spawn } from 'node:child_process';
import { readOptions } from './lib/options.mjs';
import { build, root, tool } from './lib/project.mjs';

const { load } = readOptions(
  'npm start -- [options]\n  --load N    real clients that connect and send, 0 to 2000 (default 60)',
  {
    load: { type: 'integer', least: 0, most: 2000, default: 60 },
  },
);
build();

const server = spawn(tool('bun'), ['examples/live.ts'], {
  cwd: root,
  stdio: ['ignore', 'pipe', 'inherit'],
});
server.on('exit', (code) => process.exit(code ?? 1));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => server.kill());
let isUp = false;
server.stdout.on('data', async (data) => {
  process.stdout.write(data);
  const url = /listening on (http:\S+):/.exec(String(data))?.[1];
  if (url === undefined || isUp) return;
  isUp = true;
  if (load === 0) return;
  const { startTraffic } = await import('./traffic.mjs');
  startTraffic(new URL(url).origin, load);
  console.log(
    `${load} clients connect and send; the event loop is blocked for 400 ms every 45 s, so that there is a stall to see. Ctrl-C ends it.`,
  );
});
