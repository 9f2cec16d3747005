// The cost that each feature of portcullis adds to a connect: servers with everything on but one feature,
// beside one with everything and a bare one, all live, in slices in turn.
import { PARTS } from './everything.mjs';
import { interval } from './interval.mjs';
import { Rival } from './slices.mjs';

/** The servers of a round: a name, its contestant, and the features that it is without. */
const SERVERS = [
  ['bare', 'bare', []],
  ['everything', 'portcullis', []],
  ['limits only', 'portcullis', PARTS],
  ...PARTS.map((part) => [part, 'portcullis', [part]]),
];

/**
 * Measures connects.
 * @param tell is called with the slice under way
 * @returns the rounds, each with the slice of each server
 */
async function measure(host, settings, tell) {
  const rivals = [];
  const rounds = [];
  try {
    for (const [name, contestant, without] of SERVERS)
      rivals.push([name, await Rival.start(host, contestant, settings, without)]);
    // The first round loads and compiles the code of all.
    for (let round = -1; round < settings.rounds; round++) {
      const slices = {};
      for (const [name, rival] of round % 2 === 0 ? rivals : rivals.toReversed()) {
        tell(`round ${round + 1} of ${settings.rounds}: ${name}`);
        slices[name] = await rival.connect();
        await rival.leave();
      }
      if (round >= 0) rounds.push(slices);
    }
  } finally {
    for (const [, rival] of rivals) await rival.end();
  }
  return rounds;
}

/**
 * Measures the parts of a connect.
 * @returns rows of a title and an interval of microseconds of the server's CPU
 */
export async function measureParts(host, settings, tell) {
  const rounds = await measure(host, settings, tell);
  const row = (title, of) => ({ title, micros: interval(rounds.map(of)) });
  const cpu = (slices, name) => slices[name].cpuMicros;
  return [
    row('bare: kernel', ({ bare }) => bare.kernelMicros),
    row('bare: host', ({ bare }) => bare.cpuMicros - bare.kernelMicros),
    row('limits only, beyond bare', (all) => cpu(all, 'limits only') - cpu(all, 'bare')),
    ...PARTS.map((part) =>
      row(
        `everything, beyond everything without ${part}`,
        (all) => cpu(all, 'everything') - cpu(all, part),
      ),
    ),
    row('everything, beyond bare', (all) => cpu(all, 'everything') - cpu(all, 'bare')),
    row('of it kernel', ({ everything, bare }) => everything.kernelMicros - bare.kernelMicros),
  ];
}
