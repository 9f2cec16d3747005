import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test, vi } from 'vitest';
import * as portcullis from '../dist/index.js';
import { share } from '../dist/base/share.js';
import manifest from '../package.json' with { type: 'json' };

/** Runs a script in this engine and returns its output. */
function output(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return stdout.trim();
}

test.each(['import', 'require'])(
  'both formats in one process have one set of classes and one state, also in workers: %s first',
  (first) => {
    expect(output('__test__/fixtures/formats.mjs', first)).toBe('same');
  },
);

test.each(['index', 'elysia', 'ws', 'bun', 'socket.io', 'testing'])(
  'bundlers get the classes that runtimes load: %s',
  async (entry) => {
    const [chunked, whole] = await Promise.all(
      ['', 'entries/'].map((folder) => import(resolve(`dist/${folder}${entry}.js`))),
    );
    expect({ ...whole }).toEqual({ ...chunked });
    for (const [name, value] of Object.entries(chunked)) expect(whole[name], name).toBe(value);
    const { import: conditions } = manifest.exports[entry === 'index' ? '.' : `./${entry as 'ws'}`];
    expect(conditions).toMatchObject({
      module: `./dist/entries/${entry}.js`,
      default: `./dist/${entry}.js`,
    });
  },
);

test('modules that a test runner has reset hand the first classes on', async () => {
  vi.resetModules();
  const again = await import('../dist/index.js');
  expect(again).not.toBe(portcullis);
  expect(again.ConnectionManager).toBe(portcullis.ConnectionManager);
  expect(new again.TimerManager()).toBeInstanceOf(portcullis.TimerManager);
});

test('a CommonJS module that is evaluated again hands the first classes on', () => {
  const source = `
    const first = require('./dist/index.cjs');
    for (const path of Object.keys(require.cache)) if (!path.endsWith('.node')) delete require.cache[path];
    const again = require('./dist/index.cjs');
    console.log(first !== again, first.ConnectionManager === again.ConnectionManager);`;
  expect(output('-e', source)).toBe('true true');
});

test('the CommonJS build requires no ECMAScript module', () => {
  const source = `
    for (const entry of ['index', 'ws', 'testing', 'bun', 'socket.io']) require('./dist/' + entry + '.cjs');
    console.log(Object.keys(require.cache).filter((path) => /dist.*\\.js$/.test(path)).join());`;
  expect(output('-e', source)).toBe('');
  for (const file of readdirSync('dist').filter((name) => name.endsWith('.cjs')))
    expect(readFileSync(`dist/${file}`, 'utf8'), file).not.toMatch(/require\('\.\/[^']*\.js'\)/);
});

const CHUNKS = readdirSync('dist').filter(
  (file) => file.endsWith('.cjs') && !existsSync(`dist/${file.slice(0, -4)}.js`),
);

test.each(CHUNKS)('%s can be the first chunk that a process reads', (file) => {
  expect(output('-e', `require('./dist/${file}')`)).toBe('');
});

test('all that an import evaluates with an effect is in the chunk that it reads', () => {
  const core = readFileSync('dist/core.cjs', 'utf8');
  const modules = manifest.sideEffects.filter((path) => /^\.\/dist\/\w+\/.*\.js$/.test(path));
  expect(modules).toContain('./dist/page/token.js');
  for (const path of modules.filter((each) => !each.endsWith('/runtime.js')))
    expect(core).toContain(`'${path.slice('./dist/'.length)}'`);
});

test.each([
  ['connections', ['connections.cjs', 'timers.cjs']],
  ['limiter', []],
  ['metrics', ['metrics.cjs', 'timers.cjs']],
  ['middleware', ['middleware.cjs', 'timers.cjs']],
  ['monitor', ['resources.cjs', 'timers.cjs']],
  ['page', ['connections.cjs', 'page.cjs', 'timers.cjs']],
  ['shutdown', ['shutdown.cjs', 'timers.cjs']],
  ['timers', ['timers.cjs']],
  ['tokens', ['tokens.cjs']],
])(
  'an import reads one chunk, an object what it needs, and its calls read no file: %s',
  (scene, made) => {
    expect(JSON.parse(output('__test__/fixtures/chunks.mjs', scene))).toEqual({
      imported: ['chunks.cjs', 'core.cjs'],
      made,
      called: [],
    });
  },
);

test('two versions in one process stay apart', () => {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-versions-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  cpSync('dist', join(folder, 'dist'), { recursive: true });
  symlinkSync(resolve('native'), join(folder, 'native'), 'junction');
  for (const file of readdirSync(join(folder, 'dist')).filter((name) => name.endsWith('.cjs'))) {
    const path = join(folder, 'dist', file);
    const code = readFileSync(path, 'utf8');
    writeFileSync(path, code.replaceAll(`portcullis@${manifest.version}`, 'portcullis@9.9.9'));
  }
  const source = `
    const [one, other] = ['.', process.argv[1]].map((at) => require(require('path').resolve(at, 'dist/index.cjs')));
    console.log(one.ConnectionManager === other.ConnectionManager, new one.TimerManager() instanceof other.TimerManager);`;
  expect(output('-e', source, folder)).toBe('false false');
});

test('the registry keeps the first exports of each module of each version', () => {
  const [first, later] = [{ a: 1 }, { a: 2 }];
  expect(share('formats@1', 'x', first)).toBe(first);
  expect(share('formats@1', 'x', later)).toBe(first);
  expect(share('formats@1', 'y', later)).toBe(later);
  expect(share('formats@2', 'x', later)).toBe(later);
  expect(Object.keys(globalThis)).not.toContain('formats@1');
});
