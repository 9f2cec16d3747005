// npm run asan: builds the addon with AddressSanitizer, and runs the specs of junk, of hostile callers
// and of shared memory, and the soak on Node, with it. Linux on x64 or arm64; some ten minutes.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { readOptions } from './lib/options.mjs';
import { build, fail, root, run, tool } from './lib/project.mjs';

readOptions(
  `npm run asan [-- --help]: builds the addon with AddressSanitizer, and runs the specs of junk, of hostile
callers and of shared memory, and the soak on Node, with it. Linux on x64 or arm64; some ten minutes.`,
  {},
);

const SPECS = ['junk', 'hostile', 'shared-memory'];
const TRIALS = ['connects', 'garbage', 'handshakes', 'tokens', 'workers', 'model', 'leases'];

if (process.platform !== 'linux') fail('npm run asan needs Linux.');
const printed = (command, args) => {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? stdout.trim() : undefined;
};
const target = /^host: (.*)$/m.exec(printed('rustc', ['-vV']) ?? '')?.[1];
if (target === undefined) fail('Rust is missing: install it with rustup.');
// Node itself is no sanitized program, so the runtime is loaded before it, as a shared library.
const runtime = printed('gcc', ['-print-file-name=libasan.so']);
if (runtime === undefined || !existsSync(runtime))
  fail("the sanitizer's runtime is missing: install gcc and its libasan (Debian: libasan8).");

build();
const targetFolder = join(root, 'target', 'asan');
run('cargo', ['build', '--locked', '--release', '--target', target, '--target-dir', targetFolder], {
  env: {
    ...process.env,
    // The flag is not stable; this lets the stable compiler take it.
    RUSTC_BOOTSTRAP: '1',
    RUSTFLAGS: '-Zsanitizer=address',
    CARGO_PROFILE_RELEASE_LTO: 'false',
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS: '16',
    CARGO_PROFILE_RELEASE_STRIP: 'none',
    CARGO_PROFILE_RELEASE_DEBUG: 'line-tables-only',
  },
});
const [built] = readdirSync(join(root, 'native')).filter((name) => name.endsWith('.node'));
const addon = join(root, 'native', built);
const kept = join(targetFolder, built);
// In its place and not by NAPI_RS_NATIVE_LIBRARY_PATH, which other addons of the tests would obey, too.
copyFileSync(addon, kept);
process.once('exit', () => copyFileSync(kept, addon));
copyFileSync(join(targetFolder, target, 'release', 'libportcullis.so'), addon);

const env = {
  ...process.env,
  LD_PRELOAD: runtime,
  // Node frees little at its end. V8 handles some of its own faults.
  ASAN_OPTIONS: 'detect_leaks=0:allow_user_segv_handler=1:abort_on_error=1',
};
const probe = spawnSync(
  process.execPath,
  ['-e', "import('./dist/index.js').then(() => console.log('loaded'))"],
  { cwd: root, env, encoding: 'utf8' },
);
if (probe.stdout !== 'loaded\n') fail(`the sanitized addon cannot be loaded: ${probe.stderr}`);
run(tool('vitest'), ['run', ...SPECS.map((name) => `__test__/${name}.spec.ts`)], { env });
run(
  process.execPath,
  ['scripts/soak.mjs', '--short', '--host', 'ws', ...TRIALS.flatMap((name) => ['--trial', name])],
  { env },
);
console.log('AddressSanitizer has found nothing.');
