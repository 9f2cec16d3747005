// Builds the native addon with `napi build`.
import { spawnSync } from 'node:child_process';
import { dirname } from 'node:path';
import { cargoMetadata, fail, root, run, tool } from './lib/project.mjs';

const isInstalled = (command) =>
  spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;

/**
 * Returns the compiler's flags. They keep the paths of this machine out of the addon and link C
 * libraries as its users have them.
 */
function rustFlags(args) {
  const crates = new Set(
    cargoMetadata().packages.flatMap(({ source, manifest_path: path }) =>
      source === null ? [] : [dirname(dirname(path))],
    ),
  );
  const target = args[args.indexOf('--target') + 1] ?? '';
  const own = (process.env.RUSTFLAGS ?? '').split(/\s+/).filter(Boolean);
  const flags = [
    ...own,
    `--remap-path-prefix=${root.replace(/[\\/]$/, '')}=portcullis`,
    ...[...crates].map((path) => `--remap-path-prefix=${path}=crates`),
  ];
  // musl: an addon is a shared library, and its host loads the C library.
  if (target.endsWith('-musl')) flags.push('-Ctarget-feature=-crt-static');
  // Windows: users need not install a C runtime.
  else if (target.endsWith('-msvc') || process.platform === 'win32')
    flags.push('-Ctarget-feature=+crt-static');
  return flags.join('\x1f');
}

/** Builds the addon into native/; `args` are passed on to `napi build`. */
export function buildAddon(args) {
  if (!isInstalled('cargo'))
    fail(
      'Rust is missing: install the toolchain 1.95 or newer (rustup), so that "cargo" is on the PATH.',
    );
  if (process.platform !== 'win32' && !['cc', 'gcc', 'clang'].some(isInstalled))
    fail('a C compiler is missing: install gcc or clang; Rust needs it to link.');
  const files = ['--js', 'loader.js', '--dts', 'loader.d.ts', '--output-dir', 'native'];
  run(
    tool('napi'),
    ['build', '--platform', '--release', '--no-dts-cache', ...files, ...args, '--', '--locked'],
    { env: { ...process.env, CARGO_ENCODED_RUSTFLAGS: rustFlags(args) } },
  );
}
