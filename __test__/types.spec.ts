import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

it('all entries share their classes, and Elysia and Eden keep their inference', () => {
  const { stdout, status } = spawnSync(
    'node_modules/.bin/tsc',
    ['-p', '__test__/types/tsconfig.json'],
    { encoding: 'utf8' },
  );
  expect([stdout, status]).toEqual(['', 0]);
});
