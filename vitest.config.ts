import { existsSync } from 'node:fs';
import { defineConfig } from 'vitest/config';

/**
 * Specs of the whole: they start servers, commands and compilers as processes of their own, on every
 * host that each of them names. The engine that runs the spec changes nothing, so they run on Node alone.
 */
const ONCE = [
  'architecture',
  'builder',
  'commands',
  'contract',
  'e2e',
  'examples',
  'limits',
  'load',
  'page-browser',
  'page-servers',
  'release',
  'shutdown-servers',
  'soak',
  'start',
  'types',
].map((name) => `__test__/${name}.spec.ts`);

const missing = ONCE.filter((path) => !existsSync(path));
if (missing.length > 0) throw new Error(`vitest.config.ts names ${missing.join()}, which is gone`);

const isBun = 'bun' in process.versions;
/** Every other spec is about the library inside an engine, and runs on Node and on Bun. */
const engine = { name: 'engine', include: ['__test__/**/*.spec.ts'], exclude: ONCE };
const servers = { name: 'servers', include: ONCE };

export default defineConfig({
  test: {
    pool: 'forks',
    maxWorkers: 2,
    // Long enough for a busy machine: it ends a test that has failed, and decides nothing else.
    testTimeout: 60_000,
    projects: (isBun ? [engine] : [engine, servers]).map((test) => ({ extends: true, test })),
  },
});
