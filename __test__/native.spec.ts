import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { PortcullisError } from '../dist/index.js';
import { PLATFORMS, explainLoadFailure, loadNative } from '../dist/native/addon.js';
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
      const explained = explainLoadFailure(error, host);
      expect(explained).toBeInstanceOf(PortcullisError);
      expect(explained).toMatchObject({ code, value, cause: error });
      expect(explained.message).toMatch(sentence);
      expect(explained.message).not.toContain('\n');
    },
  );

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
    expect(explainLoadFailure(failed(...ABSENT), { ...LINUX, env })).toMatchObject({
      code: 'ERR_ADDON_MISSING',
    });
  });

  test('is refused if it belongs to another package, and the environment is unchanged', () => {
    const before = { ...process.env };
    expect(() => loadNative(() => ({ other: 1 }), LINUX)).toThrow(/addon of another package/);
    expect({ ...process.env }).toEqual(before);
    // Setting a variable to undefined would give it the text "undefined".
    expect(process.env['NAPI_RS_ENFORCE_VERSION_CHECK']).not.toBe('undefined');
  });

  test('is built for every platform that the error names', () => {
    const folder = (triple: string): string =>
      `${triple.includes('linux') ? 'linux' : triple.includes('apple') ? 'darwin' : 'win32'}-${triple.startsWith('x86_64') ? 'x64' : 'arm64'}`;
    expect([...new Set(manifest.napi.targets.map(folder))].toSorted()).toEqual(
      [...PLATFORMS].toSorted(),
    );
  });
});

describe('a runtime', () => {
  test.each([
    [{ node: '18.20.0' }, false, /20\.19 or newer and this is 18\.20\.0/],
    [{ node: '20.18.3' }, false, /20\.19/],
    [{ node: '20.19.0' }, true, undefined],
    [{ node: '22.11.0' }, true, /22\.12 or newer .* or use import/],
    [{ node: '22.11.0' }, false, undefined],
    [{ node: '26.0.0' }, true, undefined],
    [{ node: '24.3.0', bun: '1.2.23' }, false, /needs Bun 1\.3 or newer/],
    [{ node: '24.3.0', bun: '1.3.0' }, true, undefined],
    [{ node: '24.3.0', bun: '2.0.0' }, true, undefined],
  ])('%j (require: %s) is checked by its version', (versions, byRequire, sentence) => {
    const problem = runtimeProblem(versions, byRequire);
    if (sentence === undefined) expect(problem).toBeUndefined();
    else expect(problem).toMatch(sentence);
  });
});
