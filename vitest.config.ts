import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['__test__/**/*.spec.ts'],
    pool: 'forks',
    testTimeout: 20_000,
    // Real servers, browsers and stopped processes on a machine that may be busy: in CI a test has a
    // second try, and the output says so.
    retry: process.env['CI'] === undefined ? 0 : 1,
  },
});
