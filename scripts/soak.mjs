// npm run soak: the failures of production, on every host, many times over. Ends with a table, and
// with code 1 and the seed if anything broke. `--minutes` and `--hours` repeat it with other seeds.
import { FULL, SHORT, TRIALS, attempt, trialsOf } from '../soak/plan.mjs';
import { HOSTS, killAll } from '../soak/process.mjs';
import { Report } from '../soak/report.mjs';
import { readOptions } from './lib/options.mjs';
import { build, fail } from './lib/project.mjs';

const USAGE = `npm run soak -- [options]
  --minutes N    repeats all trials with other seeds for N minutes, up to 10000
  --hours N      the same in hours, up to 168 (default: one round, some three minutes)
  --seed N       a whole number, from the output of a failure (default: another one each time)
  --host A       one of the hosts only, may be repeated: ${Object.keys(HOSTS).join(', ')}
  --trial A      one of the trials only, may be repeated: ${Object.keys(TRIALS).join(', ')}
  --short        small counts, to try the command`;
const OPTIONS = {
  minutes: { type: 'number', above: 0, most: 10_000 },
  hours: { type: 'number', above: 0, most: 168 },
  seed: { type: 'integer', least: 0, most: 999_999_999_999_999 },
  host: { type: 'string', multiple: true, of: Object.keys(HOSTS), default: Object.keys(HOSTS) },
  trial: { type: 'string', multiple: true, of: Object.keys(TRIALS), default: Object.keys(TRIALS) },
  short: { type: 'boolean', default: false },
};
/** Exit code of a mistake in the options and of a failed build; 1 says that a trial failed. */
const NOT_STARTED = 2;

const given = readOptions(USAGE, OPTIONS, NOT_STARTED);
const { minutes, hours, host: hosts, trial: trials } = given;
if (minutes !== undefined && hours !== undefined)
  fail('--minutes and --hours: give one of them.', NOT_STARTED);
if (!hosts.some((host) => trialsOf(host).some((trial) => trials.includes(trial))))
  fail('that trial runs inside of a runtime: use --host ws for Node, elysia for Bun.', NOT_STARTED);
build(NOT_STARTED);

for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => void killAll().then(() => process.exit(130)));
const durationMs = (minutes ?? (hours ?? 0) * 60) * 60_000;
const firstSeed = given.seed ?? Math.floor(Math.random() * 2 ** 32);
const beganMs = performance.now();
const report = new Report();
const titles = hosts.map((host) => HOSTS[host].title).join('; ');
console.log(`seed ${firstSeed}; ${titles}; all traffic stays on this machine`);
for (let round = 0; round === 0 || performance.now() - beganMs < durationMs; round++) {
  const seed = String(firstSeed + round);
  for (const host of hosts) {
    for (const trial of trialsOf(host).filter((name) => trials.includes(name))) {
      const name = `${HOSTS[host].title}: ${trial}`;
      const counts = given.short ? SHORT : FULL;
      const result = await attempt(host, trial, seed, counts, report.progressOf(name));
      const command = `npm run soak -- --seed ${seed} --host ${host} --trial ${trial}${given.short ? ' --short' : ''}`;
      report.add(name, round, result, command);
    }
  }
}
process.exit(report.close(firstSeed) === 0 ? 0 : 1);
