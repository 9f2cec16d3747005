// npm start: builds the stale parts, and starts the demo server on Bun with traffic; the server prints
// the link of its page to the terminal. `npm start -- --load 500` connects 500 real clients.
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
  const url = /listening on (http:\S+)/.exec(String(data))?.[1];
  if (url === undefined || isUp) return;
  isUp = true;
  if (load === 0) return;
  // Imported after the build, which names missing packages in a sentence.
  const { startTraffic } = await import('./traffic.mjs');
  startTraffic(new URL(url).origin, load);
  console.log(
    `${load} clients connect and send. Every 45 s a request blocks the event loop for 400 ms, to show a stall. Ctrl-C ends the demo.`,
  );
});
