// npm run soak: what goes wrong in production, on every host, many times over. Ends with a table; with
// code 1 and the seed if anything broke. `--minutes` and `--hours` go round, with other seeds, until they are over.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FULL, SHORT, TRIALS, attempt, trialsOf } from '../soak/plan.mjs';
import { HOSTS, killAll } from '../soak/process.mjs';

const OPTIONS = {
  minutes: { type: 'string' },
  hours: { type: 'string' },
  seed: { type: 'string' },
  host: { type: 'string', multiple: true },
  trial: { type: 'string', multiple: true },
  short: { type: 'boolean', default: false },
  help: { type: 'boolean' },
};
const USAGE = `npm run soak -- [options]
  --minutes N    goes round with other seeds until N minutes are over, up to 10000
  --hours N      the same in hours, up to 168 (default: one round, some three minutes)
  --seed N       a whole number, as a failure names it (default: another one each time)
  --host A       one of the hosts only, may be repeated: ${Object.keys(HOSTS).join(', ')}
  --trial A      one of the trials only, may be repeated: ${Object.keys(TRIALS).join(', ')}
  --short        small counts: to see it work`;
const fail = (sentence) => {
  console.error(`portcullis: ${sentence}`);
  process.exit(2);
};
const given = (() => {
  try {
    return parseArgs({ options: OPTIONS }).values;
  } catch (error) {
    return fail(
      `${error.message.split(/\.?(?: |\n)(?=[A-Z])/)[0]}; the options are ${Object.keys(OPTIONS).map((name) => `--${name}`)}.\n\n${USAGE}`,
    );
  }
})();
if (given.help) {
  console.log(USAGE);
  process.exit(0);
}
const duration = (name, most) => {
  if (given[name] === undefined) return 0;
  const number = Number(given[name]);
  if (given[name].trim() === '' || !(number > 0 && number <= most))
    fail(
      `--${name} must be a number above 0, up to ${most}, such as "npm run soak -- --${name} 2".`,
    );
  return number;
};
const oneOf = (name, known) => {
  for (const one of given[name] ?? [])
    if (!known.includes(one)) fail(`--${name} must be one of ${known.join(', ')}.`);
  return given[name] ?? known;
};
if (given.minutes !== undefined && given.hours !== undefined)
  fail('--minutes and --hours: give one of them.');
const lastMs = duration('minutes', 10_000) * 60_000 + duration('hours', 168) * 3_600_000;
const hosts = oneOf('host', Object.keys(HOSTS));
const trials = oneOf('trial', Object.keys(TRIALS));
if (!hosts.some((host) => trialsOf(host).some((trial) => trials.includes(trial))))
  fail('that trial runs inside of a runtime: --host ws for Node, elysia for Bun.');
const firstSeed = given.seed ?? String(Math.floor(Math.random() * 2 ** 32));
if (!/^\d{1,15}$/.test(firstSeed)) fail('--seed must be a whole number of at most 15 digits.');

const { status: built } = spawnSync(process.execPath, ['scripts/build.mjs'], {
  cwd: fileURLToPath(new URL('..', import.meta.url)),
  stdio: 'inherit',
});
if (built !== 0) process.exit(2);
const counts = given.short ? SHORT : FULL;
const began = performance.now();
const isLive = process.stdout.isTTY === true;
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => void killAll().then(() => process.exit(130)));
const rows = [];
const failures = [];
console.log(
  `seed ${firstSeed}; ${hosts.map((host) => HOSTS[host].title).join('; ')}; traffic stays on this machine`,
);
for (let round = 0; round === 0 || performance.now() - began < lastMs; round++) {
  const seed = String(Number(firstSeed) + round);
  for (const host of hosts) {
    for (const trial of trialsOf(host).filter((name) => trials.includes(name))) {
      let shownAt = performance.now();
      const name = `${HOSTS[host].title}: ${trial}`;
      const tell = (progress) => {
        const now = performance.now();
        if (now - shownAt < (isLive ? 200 : 10_000)) return;
        shownAt = now;
        process.stdout.write(
          isLive ? `\r\u001b[K${name}, ${progress}` : `   … ${name}, ${progress}\n`,
        );
      };
      const { isGood, text, ms } = await attempt(host, trial, seed, counts, tell);
      if (isLive) process.stdout.write('\r\u001b[K');
      console.log(`${isGood ? 'ok  ' : 'FAIL'} ${name} (${(ms / 1000).toFixed(1)} s): ${text}`);
      rows.push({ name, isGood, text, round });
      if (!isGood)
        failures.push(
          `npm run soak -- --seed ${seed} --host ${host} --trial ${trial}${given.short ? ' --short' : ''}`,
        );
    }
  }
}
const last = rows.filter(({ round }) => round === rows.at(-1).round);
console.log(`\n| host: trial | runs | failed | the last |\n| --- | --- | --- | --- |`);
for (const { name, text } of last) {
  const all = rows.filter((row) => row.name === name);
  console.log(
    `| ${name} | ${all.length} | ${all.filter(({ isGood }) => !isGood).length} | ${text.split('\n')[0].slice(0, 200)} |`,
  );
}
console.log(
  `\n${rows.length} runs, ${failures.length} failed, ${((performance.now() - began) / 60_000).toFixed(1)} minutes, seed ${firstSeed}`,
);
for (const command of failures) console.log(`again: ${command}`);
process.exit(failures.length === 0 ? 0 : 1);
