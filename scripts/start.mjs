// Builds what is stale, starts the demo server on Bun with some traffic, and says where its page is.
// `npm start -- --load 500` opens so many real clients.
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const fail = (sentence) => {
  console.error(`portcullis: ${sentence}`);
  process.exit(1);
};
const given = () => {
  try {
    const { load, help } = parseArgs({
      options: { load: { type: 'string', default: '60' }, help: { type: 'boolean' } },
    }).values;
    if (!help) return load;
    console.log(
      'npm start -- [options]\n  --load N    real clients that connect and send, 0 to 2000 (default 60)',
    );
    return process.exit(0);
  } catch (error) {
    return fail(`${error.message}; the only option is --load, such as "npm start -- --load 500".`);
  }
};
const text = given();
const load = Number(text);
if (text.trim() === '' || !Number.isInteger(load) || load < 0 || load > 2000)
  fail('--load must be a whole number from 0 to 2000.');
const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], {
  cwd: root,
  stdio: 'inherit',
});
if (status !== 0) process.exit(status ?? 1);

const server = spawn('node_modules/.bin/bun', ['examples/live.ts'], {
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
  const { traffic } = await import('./traffic.mjs');
  traffic(new URL(url).origin, load);
  console.log(
    `${load} clients connect and send; the event loop is blocked for 400 ms every 45 s, so that there is a stall to see. Ctrl-C ends it.`,
  );
});
