// Starts the standalone server of Next beside this file, prints the answer of /guard and ends.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';

const probe = createServer().listen(0, '127.0.0.1');
await once(probe, 'listening');
const { port } = probe.address();
probe.close();
await once(probe, 'close');
const server = spawn(process.execPath, ['server.js'], {
  env: { ...process.env, PORT: String(port), HOSTNAME: '127.0.0.1' },
  stdio: 'inherit',
});
process.on('exit', () => server.kill('SIGKILL'));
for (let tries = 0; tries < 100; tries++) {
  const answer = await fetch(`http://127.0.0.1:${port}/guard`).catch(() => undefined);
  if (answer !== undefined) {
    console.log(await answer.text());
    process.exit();
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
}
console.log('it did not listen');
process.exit(1);
