// npm run loom: the models of tests/loom, in every order of their threads.
import { join } from 'node:path';
import { root, run } from './lib/project.mjs';

run('cargo', ['test', '--release', '--target-dir', join(root, 'target', 'loom')], {
  cwd: join(root, 'tests', 'loom'),
  env: {
    // Three preemptions a run find the known faults, and end within seconds.
    LOOM_MAX_PREEMPTIONS: '3',
    ...process.env,
    RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} --cfg loom`.trim(),
  },
});
