// npm run loom: the models of tests/loom, in every order of their threads.
import { join } from 'node:path';
import { readOptions } from './lib/options.mjs';
import { root, run } from './lib/project.mjs';

readOptions(
  `npm run loom [-- --help]: runs the models of tests/loom in every order of their threads.

LOOM_MAX_PREEMPTIONS sets the preemptions of a run (default 3).`,
  {},
);

run('cargo', ['test', '--release', '--target-dir', join(root, 'target', 'loom')], {
  cwd: join(root, 'tests', 'loom'),
  env: {
    // Three preemptions a run find the known faults, and end within seconds.
    LOOM_MAX_PREEMPTIONS: '3',
    ...process.env,
    RUSTFLAGS: `${process.env.RUSTFLAGS ?? ''} --cfg loom`.trim(),
  },
});
