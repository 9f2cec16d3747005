import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { expect, test } from 'vitest';

/**
 * Folders from the ground up. A module imports from its own folder and from lower ranks only, types
 * included: folders of one rank do not know each other. The root of `ts/` holds the entries, on top.
 */
const RANKS: readonly (readonly string[])[] = [
  ['base'],
  ['native', 'timers'],
  ['limiter'],
  ['cluster', 'validators', 'middleware', 'resources', 'shutdown'],
  ['tokens', 'connections'],
  ['messages', 'metrics'],
  ['http'],
  ['page'],
  ['guard'],
  ['adapters'],
  ['builder', 'testing'],
];
const ENTRIES = ['bun.ts', 'elysia.ts', 'index.ts', 'socket.io.ts', 'testing.ts', 'ws.ts'];

interface Module {
  readonly code: string;
  /** Every module it imports or hands on, types included. */
  readonly imports: readonly string[];
}

const FROM = /^(?:import|export)\b[^;]*?\bfrom '([^']+)'|^import '([^']+)'/gms;
const DYNAMIC = /\bimport\(\s*'([^']+)'\s*\)/g;

function moduleAt(path: string): Module {
  const text = readFileSync(join('ts', path), 'utf8');
  const code = text.replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const names = [
    ...[...code.matchAll(FROM)].map(([, from, bare]) => from ?? bare ?? ''),
    ...[...code.matchAll(DYNAMIC)].map(([, name]) => name ?? ''),
  ];
  const imports = names.map((name) =>
    name.startsWith('.') ? normalize(join(dirname(path), name)).replace(/\.js$/, '.ts') : name,
  );
  return { code, imports };
}

/** The modules of `ts/`, without comments. */
const modules = new Map(
  readdirSync('ts', { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .map((path) => [path, moduleAt(path)]),
);
const holding = (pattern: RegExp): string[] =>
  [...modules].filter(([, { code }]) => pattern.test(code)).map(([path]) => path);
const importing = (name: string): string[] =>
  [...modules].filter(([, { imports }]) => imports.includes(name)).map(([path]) => path);
const folderOf = (path: string): string => dirname(path).split('/')[0] ?? '';
const rankOf = (path: string): number =>
  folderOf(path) === '.'
    ? RANKS.length
    : RANKS.findIndex((folders) => folders.includes(folderOf(path)));

test('modules are found, with their imports, types included', () => {
  expect(modules.size).toBeGreaterThan(90);
  expect(modules.get('adapters/ws.ts')?.imports).toContain('guard/guard.ts');
  // A type only.
  expect(modules.get('adapters/ws.ts')?.imports).toContain('shutdown/drainable.ts');
});

test('no module imports itself by way of others, types included', () => {
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

test('every folder has a rank, and imports between folders run downwards', () => {
  const unranked = [...modules.keys()].filter((path) => rankOf(path) < 0);
  expect(unranked).toEqual([]);
  const upwards = [...modules].flatMap(([path, { imports }]) =>
    imports
      .filter((name) => modules.has(name) && folderOf(name) !== folderOf(path))
      .filter((name) => rankOf(name) >= rankOf(path))
      .map((name) => `${path} -> ${name}`),
  );
  expect(upwards).toEqual([]);
});

test('the root holds entries only, of some ten lines, which nothing imports', () => {
  const root = [...modules.keys()].filter((path) => folderOf(path) === '.');
  expect(root.toSorted()).toEqual(ENTRIES);
  for (const entry of ENTRIES) {
    expect(importing(entry)).toEqual([]);
    // It hands names on, and declares none of its own.
    expect(modules.get(entry)?.code).not.toMatch(
      /^(?:export )?(?:default )?(?:async )?(?:const|let|class|function|interface|enum)\b/m,
    );
    expect(modules.get(entry)?.imports[0]).toBe('native/runtime.ts');
  }
});

test('one module each reads time, loads the addon, and knows the engine of Bun', () => {
  expect(holding(/\bperformance\s*\.\s*now\b|\bDate\s*\.\s*now\b|\bnew Date\(\)/)).toEqual([
    'base/clock.ts',
  ]);
  expect(importing('../native/load.cjs')).toEqual(['native/addon.ts']);
  expect(holding(/'bun:jsc'/)).toEqual(['base/jsc.ts']);
});

test('only the plugin and the builder import Elysia', () => {
  expect(importing('elysia').toSorted()).toEqual([
    'adapters/elysia.ts',
    'builder/app.ts',
    'builder/builder.ts',
  ]);
});
