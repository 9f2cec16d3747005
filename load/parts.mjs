// The cost that each feature of portcullis adds to a connect and to a message: servers with everything on but one
// feature, beside one with everything, a bare one and one with the least guard, all live, in slices in turn.
import { PARTS } from './everything.mjs';
import { interval } from './interval.mjs';
import { Rival } from './slices.mjs';

/** The servers of a round: a name, its contestant, and the features that it is without. */
const SERVERS = [
  ['bare', 'bare', []],
  ['least', 'least', []],
  ['everything', 'portcullis', []],
  ['limits only', 'portcullis', PARTS],
  ...PARTS.map((part) => [part, 'portcullis', [part]]),
];

/**
 * Measures connects and messages.
 * @param tell is called with the slice under way
 * @returns the rounds, each with the two slices of each server
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
        slices[name] = { connect: await rival.connect(), message: await rival.paced() };
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
 * Measures the parts of a connect and of a message.
 * @returns by `connect` and `message` rows of a title and an interval of microseconds of the server's CPU
 */
export async function measureParts(host, settings, tell) {
  const rounds = await measure(host, settings, tell);
  const rowsOf = (slice) => {
    const row = (title, of) => ({ title, micros: interval(rounds.map(of)) });
    const cpu = (servers, name) => servers[name][slice].cpuMicros;
    const kernel = (servers, name) => servers[name][slice].kernelMicros;
    const beyond = (title, name, other) =>
      row(title, (servers) => cpu(servers, name) - cpu(servers, other));
    return [
      row('bare: kernel', (servers) => kernel(servers, 'bare')),
      row('bare: host', (servers) => cpu(servers, 'bare') - kernel(servers, 'bare')),
      beyond('the least guard, beyond bare', 'least', 'bare'),
      beyond('limits only, beyond bare', 'limits only', 'bare'),
      ...PARTS.map((part) =>
        beyond(`everything, beyond everything without ${part}`, 'everything', part),
      ),
      beyond('everything, beyond bare', 'everything', 'bare'),
      row('of it kernel', (servers) => kernel(servers, 'everything') - kernel(servers, 'bare')),
    ];
  };
  return { connect: rowsOf('connect'), message: rowsOf('message') };
}
