// Builds what is stale: the addon from Rust, then the TypeScript. Node built-ins only. With arguments,
// which go to `napi build`, only the addon, for a release:
// node scripts/build.mjs --target aarch64-unknown-linux-gnu --use-napi-cross
// With --typescript, all but the addon.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const stampFile = join(root, 'dist', '.build-stamp.json');

function files(path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return [path];
  return readdirSync(full)
    .toSorted()
    .flatMap((name) => files(`${path}/${name}`));
}

function fingerprint(paths) {
  const hash = createHash('sha256');
  for (const path of paths.flatMap(files))
    hash
      .update(path)
      .update('\0')
      .update(readFileSync(join(root, path)));
  return hash.digest('hex');
}

function has(command) {
  return spawnSync(command, ['--version'], { stdio: 'ignore' }).status === 0;
}

function run(command, args, env = process.env) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit', env });
  if (status !== 0) process.exit(status ?? 1);
}

/** The compiler's flags: no path of this machine gets into the addon, and C libraries are linked as its users have them. */
function rustFlags(args) {
  const { stdout, status, stderr } = spawnSync(
    'cargo',
    ['metadata', '--locked', '--format-version', '1'],
    { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 },
  );
  needs(status === 0, `cargo metadata failed: ${stderr}`);
  const crates = new Set(
    JSON.parse(stdout).packages.flatMap(({ source, manifest_path: path }) =>
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
  // musl: an addon is a shared library, its host brings the C library. Windows: no runtime to install.
  if (target.endsWith('-musl')) flags.push('-Ctarget-feature=-crt-static');
  else if (target.endsWith('-msvc') || process.platform === 'win32')
    flags.push('-Ctarget-feature=+crt-static');
  return flags.join('\x1f');
}

const tool = (name) => join(root, 'node_modules', '.bin', name);
const needs = (ok, sentence) => {
  if (ok) return;
  console.error(`portcullis: ${sentence}`);
  process.exit(1);
};

needs(
  existsSync(join(root, 'node_modules')),
  'the development packages are missing: run "npm ci" first.',
);
const stamp = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, 'utf8')) : {};
const built = files('native').some((path) => path.endsWith('.node'));
const rust = fingerprint([
  'src',
  'Cargo.toml',
  'Cargo.lock',
  'build.rs',
  'scripts/build.mjs',
  'scripts/failures.mjs',
]);
const args = process.argv.slice(2);
needs(
  args.length === 0 || args[0] === '--typescript' || args[0] === '--target',
  'build.mjs takes nothing, --typescript, or --target TRIPLE and what else goes to "napi build".',
);
// For an addon that was built elsewhere: only what lies around it.
const isGiven = args[0] === '--typescript';
needs(!isGiven || built, 'native/ holds no addon to build the TypeScript around.');
if (!isGiven && (args.length > 0 || stamp.rust !== rust || !built)) {
  needs(
    has('cargo'),
    'Rust is missing: install the toolchain 1.95 or newer (rustup), so that "cargo" is on the PATH.',
  );
  needs(
    has('cc') || has('gcc') || has('clang') || process.platform === 'win32',
    'a C compiler is missing: install gcc or clang; Rust needs it to link.',
  );
  const napi = [
    'build',
    '--platform',
    '--release',
    '--no-dts-cache',
    '--js',
    'loader.js',
    '--dts',
    'loader.d.ts',
    '--output-dir',
    'native',
    ...args,
    '--',
    '--locked',
  ];
  run(tool('napi'), napi, { ...process.env, CARGO_ENCODED_RUSTFLAGS: rustFlags(args) });
  if (args.length > 0) process.exit();
  run(process.execPath, [join(root, 'scripts', 'failures.mjs')]);
}
// By everything that it is written from: what is linked, and what the page holds.
const NOTED = [
  'THIRD-PARTY-NOTICES.md',
  'Cargo.lock',
  'Cargo.toml',
  'package.json',
  'package-lock.json',
  'scripts/notices.mjs',
];
if (!isGiven && stamp.notices !== fingerprint(NOTED))
  run(process.execPath, [join(root, 'scripts', 'notices.mjs')]);
const script = fingerprint([
  'ts',
  'page',
  'native/loader.d.ts',
  'tsconfig.json',
  'scripts/build.mjs',
  'scripts/page.mjs',
  'scripts/types.mjs',
  'scripts/commonjs.mjs',
  'package-lock.json',
]);
if (stamp.script !== script || !existsSync(join(root, 'dist', 'index.js'))) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(tool('tsc'), ['-p', 'tsconfig.json']);
  run(tool('tsc'), ['-p', 'page/tsconfig.json']);
  run(process.execPath, [join(root, 'scripts', 'page.mjs')]);
  run(process.execPath, [join(root, 'scripts', 'types.mjs')]);
  run(process.execPath, [join(root, 'scripts', 'commonjs.mjs')]);
}
const DOCUMENTED = [
  'docs',
  'index.d.ts',
  'dist/elysia.d.ts',
  'dist/ws.d.ts',
  'dist/bun.d.ts',
  'dist/testing.d.ts',
  'src/metrics',
  'src/sampler',
  'scripts/docs.mjs',
];
if (stamp.docs !== fingerprint(DOCUMENTED))
  run(process.execPath, [join(root, 'scripts', 'docs.mjs')]);
mkdirSync(join(root, 'dist'), { recursive: true });
const next = {
  rust,
  script,
  docs: fingerprint(DOCUMENTED),
  notices: isGiven ? stamp.notices : fingerprint(NOTED),
};
// Commands look here at the same time: one must not read what another has half written.
if (JSON.stringify(next) !== JSON.stringify(stamp)) writeFileSync(stampFile, JSON.stringify(next));
