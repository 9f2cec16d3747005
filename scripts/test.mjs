// Runs every test: the core in Rust, the suite on Node, the same suite on Bun.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
let passed = 0;
let failed = 0;

function run(title, command, args, count) {
  console.log(`\n== ${title}`);
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
    env: { ...process.env, NO_COLOR: '1' },
  });
  process.stdout.write(stdout ?? '');
  process.stderr.write(stderr ?? '');
  const before = passed;
  if (count !== undefined)
    for (const [ok, bad] of count(stdout ?? '')) {
      passed += ok;
      failed += bad;
    }
  if (status !== 0 && failed === 0) failed++;
  if (count !== undefined && passed === before && status === 0) {
    console.error(`portcullis: "${title}" ran no test`);
    failed++;
  }
  return status === 0;
}

const cargo = (out) =>
  [...out.matchAll(/test result: \w+\. (\d+) passed; (\d+) failed/g)].map((match) => [
    Number(match[1]),
    Number(match[2]),
  ]);
const vitest = (out) =>
  [...out.matchAll(/^\s*Tests\s+(?:(\d+) failed \| )?(\d+) passed/gm)].map((match) => [
    Number(match[2]),
    Number(match[1] ?? 0),
  ]);

if (!run('build', process.execPath, ['scripts/build.mjs'])) process.exit(1);
run('core (cargo)', 'cargo', ['test', '--locked', '--no-default-features', '--quiet'], cargo);
run('suite on Node', process.execPath, ['node_modules/vitest/vitest.mjs', 'run'], vitest);
run(
  'suite on Bun',
  'node_modules/.bin/bun',
  ['--bun', 'node_modules/vitest/vitest.mjs', 'run'],
  vitest,
);
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
