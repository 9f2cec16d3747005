// Builds what is stale and starts the demo server on Bun.
import { spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { status } = spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' });
if (status !== 0) process.exit(status ?? 1);
spawn('node_modules/.bin/bun', ['examples/elysia.ts'], { cwd: root, stdio: 'inherit' }).on('exit', (code) => process.exit(code ?? 1));
