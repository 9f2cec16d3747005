import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { runInNewContext } from 'node:vm';
import { describe, expect, onTestFinished, test } from 'vitest';
import { PortcullisError } from '../dist/index.js';
import { PLATFORMS, addonOf, explainLoadFailure } from '../dist/native/addon.js';
import { runtimeProblem } from '../dist/native/runtime.js';
import manifest from '../package.json' with { type: 'json' };

const LINUX = { platform: 'linux', arch: 'x64', env: {} };

/** Makes the error of the generated loader: each attempt has the one before it as its cause. */
function failed(...messages: string[]): Error {
  let last: Error | undefined;
  for (const message of messages)
    last = new Error(message, last === undefined ? undefined : { cause: last });
  return last ?? new Error('nothing');
}
const ABSENT = [
  "Cannot find module '../portcullis.linux-x64-gnu.node'",
  "Cannot find module '@portcullis/addon-linux-x64-gnu'",
  'Cannot find native binding.',
];

describe('an addon that cannot be loaded', () => {
  test.each([
    [
      'its package is missing',
      failed(...ABSENT),
      LINUX,
      'ERR_ADDON_MISSING',
      '@portcullis/addon-linux-x64-gnu',
      /optional dependencies/,
    ],
    [
      'its package is missing, and so is one for WebAssembly that was tried last',
      failed(
        ...ABSENT.slice(0, 2),
        "Cannot find module '@portcullis/addon-wasm32-wasi'",
        'WASI binding not found',
        'Cannot find native binding.',
      ),
      LINUX,
      'ERR_ADDON_MISSING',
      '@portcullis/addon-linux-x64-gnu',
      /optional dependencies/,
    ],
    [
      'there is none for the platform',
      failed('Cannot find native binding.'),
      { ...LINUX, platform: 'freebsd' },
      'ERR_PLATFORM_UNSUPPORTED',
      'freebsd-x64',
      /build it from source/,
    ],
    [
      'there is none for the processor',
      failed('Cannot find native binding.'),
      { ...LINUX, arch: 'ia32' },
      'ERR_PLATFORM_UNSUPPORTED',
      'linux-ia32',
      /Linux .* and Windows on x64/,
    ],
    [
      'glibc is too old',
      failed("/lib/libc.so.6: version `GLIBC_2.38' not found", 'Cannot find native binding.'),
      LINUX,
      'ERR_ADDON_UNUSABLE',
      'linux-x64',
      /glibc 2\.17 or newer/,
    ],
    [
      'it is for musl',
      failed(
        'libc.musl-x86_64.so.1: cannot open shared object file',
        'Cannot find native binding.',
      ),
      LINUX,
      'ERR_ADDON_UNUSABLE',
      'linux-x64',
      /other C library/,
    ],
    [
      'it is of another version',
      failed(
        'Native binding package version mismatch, expected 0.1.0 but got 0.0.9',
        'Cannot find native binding.',
      ),
      LINUX,
      'ERR_ADDON_UNUSABLE',
      'linux-x64',
      /its version is not that of portcullis/,
    ],
    [
      'addons are disabled',
      failed(
        ...ABSENT.slice(0, 1),
        'Cannot load native addon because loading addons is disabled.',
        'Cannot find native binding.',
      ),
      LINUX,
      'ERR_ADDON_UNUSABLE',
      'linux-x64',
      /without --no-addons, and with --allow-addons/,
    ],
    [
      'its file system is mounted noexec',
      failed(
        '/tmp/.bun-0-eed0.node: failed to map segment from shared object',
        'Cannot find native binding.',
      ),
      LINUX,
      'ERR_ADDON_UNUSABLE',
      'linux-x64',
      /mount its file system with exec/,
    ],
    [
      'a path was given that is wrong',
      failed("Cannot find module '/nowhere.node'", 'Cannot find native binding.'),
      { ...LINUX, env: { NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere.node' } },
      'ERR_ADDON_UNUSABLE',
      '/nowhere.node',
      /correct it, or unset it/,
    ],
  ])(
    'is explained in one sentence and with a code: %s',
    (_, error, host, code, value, sentence) => {
      const explained = explainLoadFailure(error, host, false);
      expect(explained).toBeInstanceOf(PortcullisError);
      expect(explained).toMatchObject({ code, value, cause: error });
      expect(explained.message).toMatch(sentence);
      expect(explained.message).not.toContain('\n');
    },
  );

  test('is told apart in a process that loads none', () => {
    const script =
      "import('./dist/index.js').catch(({ code, message }) => console.log(code, message))";
    const { stdout } = spawnSync(process.execPath, ['--no-addons', '-e', script], {
      encoding: 'utf8',
    });
    expect(stdout).toMatch(
      /^ERR_ADDON_UNUSABLE .*disabled.*: start the process without --no-addons/,
    );
  });

  test.each([
    ['NAPI_RS_WASI_FLAVOR', { NAPI_RS_WASI_FLAVOR: 'threads' }, 'threads'],
    ['NAPI_RS_WASI_FLAVOR', { NAPI_RS_WASI_FLAVOR: 'wasm32-wasi' }, 'wasm32-wasi'],
    [
      'NAPI_RS_WASI_FLAVOR',
      {
        NAPI_RS_WASI_FLAVOR: 'wasm32-wasi',
        NAPI_RS_FORCE_WASI: 'error',
        NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere.node',
      },
      'wasm32-wasi',
    ],
    [
      'NAPI_RS_FORCE_WASI',
      { NAPI_RS_FORCE_WASI: 'error', NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere.node' },
      'error',
    ],
    [
      'NAPI_RS_NATIVE_LIBRARY_PATH',
      { NAPI_RS_NATIVE_LIBRARY_PATH: '/nowhere.node', NAPI_RS_FORCE_WASI: 'true' },
      '/nowhere.node',
    ],
  ])('is blamed on %s, and on no other variable, in %j', (field, env, value) => {
    const names = {
      ...process.env,
      NAPI_RS_WASI_FLAVOR: '',
      NAPI_RS_FORCE_WASI: '',
      NAPI_RS_NATIVE_LIBRARY_PATH: '',
      ...env,
    };
    const script =
      "import('./dist/index.js').then(() => console.log('{}'), ({ code, field, value, message }) => console.log(JSON.stringify({ code, field, value, message })))";
    const { stdout } = spawnSync(process.execPath, ['-e', script], {
      encoding: 'utf8',
      env: names,
    });
    expect(JSON.parse(stdout)).toEqual({
      code: 'ERR_ADDON_UNUSABLE',
      field,
      value,
      message: expect.stringMatching(new RegExp(`^${field} .*unset it\\.$`)),
    });
  });

  test.each([
    { NAPI_RS_FORCE_WASI: 'true' },
    { NAPI_RS_FORCE_WASI: '1' },
    { NAPI_RS_FORCE_WASI: '' },
    { NAPI_RS_WASI_FLAVOR: '' },
  ])('that is missing is not blamed on %j, which leaves the loader its choice', (env) => {
    expect(explainLoadFailure(failed(...ABSENT), { ...LINUX, env }, false)).toMatchObject({
      code: 'ERR_ADDON_MISSING',
    });
  });

  test.each([
    [
      'the addon is not beside it',
      ["Cannot find module './portcullis.linux-x64-gnu-EIQKETTO.node'", ...ABSENT.slice(2)],
      'ERR_ADDON_MISSING',
      /not beside.*@portcullis\/addon-linux-x64-gnu where/,
    ],
    [
      'the addon is neither beside it nor installed',
      ABSENT,
      'ERR_ADDON_MISSING',
      /not beside the bundle: let the bundler copy \.node files/,
    ],
    [
      'it has no require',
      ['Dynamic require of "fs" is not supported'],
      'ERR_ADDON_UNUSABLE',
      /Dynamic require of "fs" is not supported\): build CommonJS/,
    ],
    [
      'it is an executable of Node',
      [
        'No such built-in module: ./portcullis.linux-x64-gnu.node',
        'require.resolve is no function',
      ],
      'ERR_ADDON_UNUSABLE',
      /No such built-in module.*\): build CommonJS, define `require` by `createRequire`/,
    ],
    [
      'a loader of the bundler has put the path of the addon in its place',
      ["Cannot create property 'NativeCluster' on string './portcullis.linux-x64-gnu.node'"],
      'ERR_ADDON_UNUSABLE',
      /on string .*: let the bundler copy \.node files as they are, or keep portcullis external/,
    ],
    [
      'its executable has no temporary folder',
      [
        '/$bunfs/root/portcullis.linux-x64-gnu-3q.node: cannot open shared object file: No such file',
      ],
      'ERR_ADDON_UNUSABLE',
      /temporary folder .*TMPDIR/,
    ],
    [
      'the binary is of another version',
      ['Native binding package version mismatch, expected 0.1.0 but got 0.0.9'],
      'ERR_ADDON_UNUSABLE',
      /its version is not that of portcullis/,
    ],
  ])('is explained by the bundle: %s', (_, messages, code, sentence) => {
    const explained = explainLoadFailure(failed(...messages), LINUX, true);
    expect(explained).toMatchObject({ code });
    expect(explained.message).toMatch(sentence);
  });

  test('is explained to another realm, whose errors are no instances of Error', () => {
    const error = runInNewContext("new Error('version `GLIBC_2.38` not found')");
    expect(explainLoadFailure(error, LINUX, false)).toMatchObject({ code: 'ERR_ADDON_UNUSABLE' });
  });

  test('is refused if it belongs to another package, and the environment is unchanged', () => {
    expect(() => addonOf({ loaded: { other: 1 } }, LINUX)).toThrow(/addon of another package/);
    expect(() => addonOf({ loaded: './portcullis.node' }, LINUX)).toThrow(
      /a path and no addon\): let the bundler copy/,
    );
    // The variable is set while the addon loads, which it did at the import above.
    expect(process.env).not.toHaveProperty('NAPI_RS_ENFORCE_VERSION_CHECK');
  });

  test('is built for every platform that the error names', () => {
    const folder = (triple: string): string =>
      `${triple.includes('linux') ? 'linux' : triple.includes('apple') ? 'darwin' : 'win32'}-${triple.startsWith('x86_64') ? 'x64' : 'arm64'}`;
    expect([...new Set(manifest.napi.targets.map(folder))].toSorted()).toEqual(
      [...PLATFORMS].toSorted(),
    );
  });
});

/** Bundles a module that imports portcullis, and returns the folder of the bundle. */
function bundled(target: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'portcullis-bundle-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const source = `import('${resolve('dist/index.js')}').then(({ isPublicAddress }) => console.log(isPublicAddress('127.0.0.1')), ({ code, message }) => console.log(code, message));`;
  writeFileSync(join(folder, 'app.mjs'), source);
  const built = join(folder, 'built');
  const { status, stderr } = spawnSync(
    resolve('node_modules/.bin/bun'),
    ['build', `--target=${target}`, join(folder, 'app.mjs'), '--outdir', built],
    { encoding: 'utf8' },
  );
  expect(status, stderr).toBe(0);
  return built;
}

describe('a bundle', () => {
  test.each([
    ['node', 'node'],
    ['bun', resolve('node_modules/.bin/bun')],
  ])('takes the addon along, and without it names the bundle: %s', (target, command) => {
    const folder = bundled(target);
    const run = (): string =>
      spawnSync(command, [join(folder, 'app.js')], { encoding: 'utf8', cwd: folder }).stdout;
    expect(run()).toBe('false\n');
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.node')))
      rmSync(join(folder, name));
    expect(run()).toMatch(/^ERR_ADDON_MISSING .*not beside the bundle/);
  });
});

describe('a runtime', () => {
  test.each([
    [{ node: '18.20.0' }, /20\.19 or newer and this is 18\.20\.0/],
    [{ node: '20.18.3' }, /20\.19/],
    [{ node: '20.19.0' }, undefined],
    [{ node: '22.11.0' }, undefined],
    [{ node: '26.0.0' }, undefined],
    [{ node: '24.3.0', bun: '1.2.23' }, /needs Bun 1\.3 or newer/],
    [{ node: '24.3.0', bun: '1.3.0' }, undefined],
    [{ node: '24.3.0', bun: '2.0.0' }, undefined],
  ])('%j is checked by its version', (versions, sentence) => {
    const problem = runtimeProblem(versions);
    if (sentence === undefined) expect(problem).toBeUndefined();
    else expect(problem).toMatch(sentence);
  });
});
