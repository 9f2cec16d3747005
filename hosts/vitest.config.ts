import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';

// Servers of other packages with the guard in front of them. Run from the root, after `npm ci` in this folder:
//   npx vitest run --config hosts/vitest.config.ts
export default defineConfig({
  test: {
    root: fileURLToPath(new URL('..', import.meta.url)),
    include: ['hosts/**/*.spec.ts'],
    pool: 'forks',
    maxWorkers: 2,
    // These end what has failed, and decide nothing else: long enough for a busy machine.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
  },
});
