import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

it.each([
  ['all entries share their classes, and Elysia and Eden keep their inference', 'types'],
  ['a handle is a timer of the host on Node', 'types/node'],
  ['bytes of metrics are a body of a response in a program with the DOM library', 'types/dom'],
])('%s', (_name, folder) => {
  const { stdout, status } = spawnSync(
    'node_modules/.bin/tsc',
    ['-p', `__test__/${folder}/tsconfig.json`],
    { encoding: 'utf8' },
  );
  expect([stdout, status]).toEqual(['', 0]);
});
