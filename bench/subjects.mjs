// The subjects of the benchmarks that print rows of figures, and the hosts on which they run.
import { tool } from '../scripts/lib/project.mjs';

/** The hosts: name, command and flags. */
export const HOSTS = {
  node: ['Node', process.execPath, ['--expose-gc']],
  bun: ['Bun', tool('bun'), []],
};

/** The subjects, in the order in which they run, with the arguments of each of their runs. */
export const SUBJECTS = {
  'load-time': [['--rounds', '11']],
  connections: [[], ['1000000']],
  host: [[]],
  admission: [[]],
  limiter: [[]],
  sweep: [[]],
  timers: [[]],
  resources: [[]],
  metrics: [[]],
  page: [[]],
  'own-metrics': [[]],
  joins: [[]],
  middleware: [['async'], ['sync'], ['always'], ['netted'], ['execute']],
  json: [[]],
  headers: [[]],
  tokens: [[]],
};
