// Builds what is stale: the addon from Rust, then the TypeScript. Node built-ins only.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
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

function run(command, args) {
  const { status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}

const tool = (name) => join(root, 'node_modules', '.bin', name);
const needs = (ok, sentence) => {
  if (ok) return;
  console.error(`portcullis: ${sentence}`);
  process.exit(1);
};

needs(existsSync(join(root, 'node_modules')), 'the development packages are missing: run "npm ci" first.');
const stamp = existsSync(stampFile) ? JSON.parse(readFileSync(stampFile, 'utf8')) : {};
const built = files('native').some((path) => path.endsWith('.node'));
const rust = fingerprint(['src', 'Cargo.toml', 'Cargo.lock', 'build.rs', 'scripts/failures.mjs']);
const rustIsFresh = stamp.rust === rust && built;
if (!rustIsFresh) {
  needs(has('cargo'), 'Rust is missing: install the toolchain 1.95 or newer (rustup), so that "cargo" is on the PATH.');
  needs(has('cc') || has('gcc') || has('clang') || process.platform === 'win32', 'a C compiler is missing: install gcc or clang; Rust needs it to link.');
  run(tool('napi'), [
    'build',
    '--platform',
    '--release',
    '--esm',
    '--no-dts-cache',
    '--js',
    'loader.js',
    '--dts',
    'loader.d.ts',
    '--output-dir',
    'native',
    '--',
    '--locked',
  ]);
  run(process.execPath, [join(root, 'scripts', 'failures.mjs')]);
}
const script = fingerprint(['ts', 'page', 'native/loader.d.ts', 'tsconfig.json', 'scripts/build.mjs', 'scripts/page.mjs', 'package-lock.json']);
if (stamp.script !== script || !existsSync(join(root, 'dist', 'index.js'))) {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(tool('tsc'), ['-p', 'tsconfig.json']);
  run(tool('tsc'), ['-p', 'page/tsconfig.json']);
  run(process.execPath, [join(root, 'scripts', 'page.mjs')]);
  run(process.execPath, [join(root, 'scripts', 'types.mjs')]);
}
const DOCUMENTED = [
  'docs',
  'index.d.ts',
  'dist/elysia.d.ts',
  'dist/ws.d.ts',
  'dist/bun.d.ts',
  'dist/testing.d.ts',
  'src/kpi',
  'src/sampler',
  'scripts/docs.mjs',
];
if (stamp.docs !== fingerprint(DOCUMENTED)) run(process.execPath, [join(root, 'scripts', 'docs.mjs')]);
mkdirSync(join(root, 'dist'), { recursive: true });
writeFileSync(stampFile, JSON.stringify({ rust, script, docs: fingerprint(DOCUMENTED) }));
