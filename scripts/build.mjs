// Builds the stale parts of the project: the addon from Rust, then the TypeScript, the notices and
// the documentation.
//   node scripts/build.mjs                   everything
//   node scripts/build.mjs --typescript      everything but the addon, which was built elsewhere
//   node scripts/build.mjs --target TRIPLE   only the addon, for a release; further arguments go to `napi build`
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
import { join } from 'node:path';
import { buildAddon } from './addon.mjs';
import { fail, json, root, run, tool } from './lib/project.mjs';

/**
 * The sources of each part: a part is stale when the contents of its sources differ from those of
 * its last build.
 */
const SOURCES = {
  rust: [
    'src',
    'Cargo.toml',
    'Cargo.lock',
    'build.rs',
    'scripts/addon.mjs',
    'scripts/failures.mjs',
  ],
  script: [
    'ts',
    'page',
    'native/load.cjs',
    'native/load.d.cts',
    'native/loader.d.ts',
    'tsconfig.json',
    'scripts/build.mjs',
    'scripts/page.mjs',
    'scripts/types.mjs',
    'scripts/share.mjs',
    'scripts/bundles.mjs',
    'package.json',
    'package-lock.json',
  ],
  docs: [
    'docs',
    'hosts/servers',
    'hosts/next/server.mjs',
    'hosts/nitro/server/plugins/guard.mjs',
    'index.d.ts',
    'dist/elysia.d.ts',
    'dist/ws.d.ts',
    'dist/bun.d.ts',
    'dist/socket.io.d.ts',
    'dist/testing.d.ts',
    'src/metrics',
    'src/sampler',
    'scripts/docs',
    'scripts/docs.mjs',
  ],
  notices: [
    'THIRD-PARTY-NOTICES.md',
    'Cargo.lock',
    'Cargo.toml',
    'package.json',
    'package-lock.json',
    'scripts/notices.mjs',
  ],
};
const STAMP = join(root, 'dist', '.build-stamp.json');

function filesIn(path) {
  const full = join(root, path);
  if (!existsSync(full)) return [];
  if (!statSync(full).isDirectory()) return [path];
  return readdirSync(full)
    .toSorted()
    .flatMap((name) => filesIn(`${path}/${name}`));
}

function fingerprint(part) {
  const hash = createHash('sha256');
  for (const path of SOURCES[part].flatMap(filesIn))
    hash
      .update(path)
      .update('\0')
      .update(readFileSync(join(root, path)));
  return hash.digest('hex');
}

/** Runs scripts of this folder, one after the other. */
const scripts = (...names) =>
  names.forEach((name) => run(process.execPath, [join(root, 'scripts', `${name}.mjs`)]));

function buildScript() {
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  run(tool('tsc'), ['-p', 'tsconfig.json']);
  run(tool('tsc'), ['-p', 'page/tsconfig.json']);
  scripts('page', 'types', 'share', 'bundles');
}

const args = process.argv.slice(2);
const isScriptOnly = args[0] === '--typescript';
if (args.length > 0 && !isScriptOnly && args[0] !== '--target')
  fail(
    'build.mjs takes no arguments, --typescript, or --target TRIPLE and arguments of "napi build".',
  );
if (!existsSync(join(root, 'node_modules')))
  fail('the development packages are missing: run "npm ci" first.');
const stamp = existsSync(STAMP) ? json(STAMP) : {};
const hasAddon = filesIn('native').some((path) => path.endsWith('.node'));
if (isScriptOnly && !hasAddon) fail('native/ holds no addon to build the TypeScript around.');

// A build with --typescript keeps the note on the addon, which may be older than its sources: the next whole build then
// builds the addon.
const built = { rust: isScriptOnly ? stamp.rust : fingerprint('rust') };
if (args[0] === '--target') {
  buildAddon(args);
  process.exit();
}
if (!isScriptOnly && (stamp.rust !== built.rust || !hasAddon)) {
  buildAddon([]);
  scripts('failures');
}
if (!isScriptOnly && stamp.notices !== fingerprint('notices')) scripts('notices');
built.script = fingerprint('script');
if (stamp.script !== built.script || !existsSync(join(root, 'dist', 'index.js'))) buildScript();
if (stamp.docs !== fingerprint('docs')) scripts('docs');
// Steps write into their own sources: the fingerprints are those after the build.
built.docs = fingerprint('docs');
built.notices = isScriptOnly ? stamp.notices : fingerprint('notices');
mkdirSync(join(root, 'dist'), { recursive: true });
// Several commands build at the same time: an unchanged stamp is not written, so that none reads
// half of it.
if (JSON.stringify(built) !== JSON.stringify(stamp)) writeFileSync(STAMP, JSON.stringify(built));
