import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

interface Module {
  readonly code: string;
  /** The modules that it loads, without types. */
  readonly imports: readonly string[];
}

const LINES = /^(?:import|export)(?! type\b)[^;]*?\bfrom '([^']+)'|^import '([^']+)'/gms;

/** The modules of `ts/`, without comments, each with what it imports. */
const modules = new Map<string, Module>(
  readdirSync('ts', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => {
      const code = readFileSync(join('ts', path), 'utf8').replaceAll(
        /\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm,
        '',
      );
      const imports = [...code.matchAll(LINES)].map(([, from, bare]) => from ?? bare ?? '');
      return [
        path,
        {
          code,
          imports: imports.map((name) =>
            name.startsWith('.')
              ? normalize(join(dirname(path), name)).replace(/\.js$/, '.ts')
              : name,
          ),
        },
      ] as const;
    }),
);
const holding = (pattern: RegExp): string[] =>
  [...modules].filter(([, { code }]) => pattern.test(code)).map(([path]) => path);
const importing = (name: string): string[] =>
  [...modules].filter(([, { imports }]) => imports.includes(name)).map(([path]) => path);

test('modules are found, with their imports', () => {
  expect(modules.size).toBeGreaterThan(50);
  expect(modules.get('ws.ts')?.imports).toContain('door.ts');
});

test('no module loads itself by way of others', () => {
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (path: string, above: readonly string[]): void => {
    if (above.includes(path))
      circles.push([...above.slice(above.indexOf(path)), path].join(' -> '));
    if (above.includes(path) || done.has(path)) return;
    for (const next of modules.get(path)?.imports ?? []) visit(next, [...above, path]);
    done.add(path);
  };
  for (const path of modules.keys()) visit(path, []);
  expect(circles).toEqual([]);
});

test('adapters and the builder stand on top: nothing but an entry imports them', () => {
  for (const adapter of ['ws.ts', 'bun.ts', 'elysia.ts', 'testing.ts', 'index.ts'])
    expect(importing(adapter)).toEqual([]);
  expect(importing('elysia-plugin.ts').toSorted()).toEqual(['builder/app.ts', 'elysia.ts']);
  const ofBuilder = [...modules.keys()].filter((path) => path.startsWith('builder/'));
  expect(
    new Set(ofBuilder.flatMap(importing).filter((path) => !path.startsWith('builder/'))),
  ).toEqual(new Set(['elysia.ts']));
  expect(importing('elysia').toSorted()).toEqual([
    'builder/app.ts',
    'builder/builder.ts',
    'elysia-plugin.ts',
  ]);
});

test('one module each reads time, loads the addon, and knows the engine of Bun', () => {
  expect(holding(/\bperformance\s*\.\s*now\b|\bDate\s*\.\s*now\b|\bnew Date\(\)/)).toEqual([
    'clock.ts',
  ]);
  expect(holding(/native\/loader\.js'\)/)).toEqual(['native.ts']);
  expect(holding(/'bun:jsc'/)).toEqual(['jsc.ts']);
});
