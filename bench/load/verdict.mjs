// What the rounds of a host came to: medians, and the table of what is wanted.

const MIB = 2 ** 20;
const median = (list) => {
  const sorted = list.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/** The median of every number in the rounds; what is not a number is of the last round. */
export function medians(rounds) {
  const last = rounds.at(-1);
  if (typeof last === 'number') return median(rounds.filter((value) => typeof value === 'number'));
  if (typeof last !== 'object' || last === null) return last;
  return Object.fromEntries(Object.keys(last).map((key) => [key, medians(rounds.map((round) => round?.[key]))]));
}

const RSS_MAX_MB = { bun: 256, node: 512 };

/**
 * What is wanted of portcullis, what it got, and whether that is enough. Ratios are of one round, medians of the rounds'.
 * @param rounds the figures of each round by contestant
 * @returns rows; `pass` is undefined where what it is compared with did not run
 */
export function verdictOf(host, rounds) {
  const of = (figure) => {
    const values = rounds.map(figure).filter((value) => Number.isFinite(value));
    return values.length === 0 ? undefined : median(values);
  };
  const added = (round, who) => (round[who]?.burst.cpuPerMillion ?? NaN) - (round.bare?.burst.cpuPerMillion ?? NaN);
  const row = (title, got, unit, must, aim, digits, passes) => ({ title, got, unit, must, aim, digits, pass: got === undefined ? undefined : passes(got) });
  const ours = rounds.map((round) => round.portcullis).filter(Boolean);
  const worst = (figure) => (ours.length === 0 ? undefined : Math.max(...ours.map(figure)));
  const errors = worst(({ steady, burst, wrong }) => steady.errorRate + burst.unanswered + wrong.answers + wrong.lost);
  const inexact = ours.length === 0 ? undefined : ours.filter(({ seats }) => !seats.areExact).length;
  return [
    row(
      'throughput, of bare',
      of(({ portcullis, bare }) => portcullis?.burst.perSecond / bare?.burst.perSecond),
      'x',
      '>= 0.95',
      '>= 0.98',
      3,
      (got) => got >= 0.95,
    ),
    row(
      'round trip p99, of bare',
      of(({ portcullis, bare }) => portcullis?.steady.p99Ms / bare?.steady.p99Ms),
      'x',
      '<= 1.1',
      '<= 1.03',
      2,
      (got) => got <= 1.1,
    ),
    row(
      'CPU a message above bare, of what npm adds',
      of((round) => added(round, 'portcullis') / added(round, 'npm')),
      'x',
      '<= 0.4',
      '<= 0.15',
      2,
      (got) => got <= 0.4,
    ),
    row(
      'resident memory, most',
      worst(({ rssBytes }) => rssBytes / MIB),
      'MB',
      `< ${RSS_MAX_MB[host]}`,
      '',
      0,
      (got) => got < RSS_MAX_MB[host],
    ),
    row(
      'average response',
      of(({ portcullis }) => portcullis?.steady.meanMs),
      'ms',
      '< 10',
      '',
      2,
      (got) => got < 10,
    ),
    row('errors', errors, '', '0', '', 4, (got) => got === 0),
    row(
      'flood: loop delay p99, worst',
      worst(({ flood }) => flood.delayP99Ms),
      'ms',
      '<= 50',
      '',
      1,
      (got) => got <= 50,
    ),
    row('flood: rounds whose seats were not exact', inexact, '', '0', '', 0, (got) => got === 0),
  ];
}

const whole = (value) => Math.round(value).toLocaleString('en-US');
const FIGURES = [
  ['messages a second', ({ burst }) => whole(burst.perSecond)],
  ['server busy meanwhile, %', ({ burst }) => (burst.serverBusy * 100).toFixed(0)],
  ['CPU s per million messages', ({ burst }) => burst.cpuPerMillion.toFixed(2)],
  ['the same at the set rate', ({ steady }) => steady.cpuPerMillion.toFixed(2)],
  ['round trip p50 / p99, ms', ({ steady }) => `${steady.p50Ms.toFixed(3)} / ${steady.p99Ms.toFixed(2)}`],
  ['loop delay p99, set rate / burst, ms', ({ steady, burst }) => `${steady.delayP99Ms.toFixed(1)} / ${burst.delayP99Ms.toFixed(1)}`],
  ['connects a second', ({ connectsPerSecond }) => whole(connectsPerSecond)],
  ['memory per idle connection, KB', ({ bytesPerConnection }) => (bytesPerConnection / 1024).toFixed(1)],
  ['resident memory idle / most, MB', ({ idleRssBytes, rssBytes }) => `${(idleRssBytes / MIB).toFixed(0)} / ${(rssBytes / MIB).toFixed(0)}`],
  ['flood: seconds', ({ flood }) => flood?.seconds.toFixed(1) ?? '-'],
  ['flood: server CPU a refusal, µs', ({ flood }) => flood?.cpuMicros.toFixed(0) ?? '-'],
  ['flood: loop delay p99, ms', ({ flood }) => flood?.delayP99Ms.toFixed(1) ?? '-'],
  ['seats exact', ({ seats }) => (seats ? (seats.areExact ? 'yes' : 'no') : '-')],
];

/** Columns as wide as what is in them: the first to the left, the others to the right. */
function columns(rows) {
  const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => row[at].length)));
  return rows.map((row) => row.map((text, at) => (at === 0 ? text.padEnd(widths[at]) : text.padStart(widths[at]))).join('  ')).join('\n');
}

/** The figures of a host as text. */
export function tableOf(figures) {
  const names = Object.keys(figures);
  return columns([['', ...names], ...FIGURES.map(([title, text]) => [title, ...names.map((name) => text(figures[name]))])]);
}

/** What was wanted, as text. */
export function verdictText(rows) {
  const word = ({ pass }) => (pass === undefined ? 'not measured' : pass ? 'met' : 'MISSED');
  return columns([
    ['portcullis, everything on', 'got', 'must', 'aim', ''],
    ...rows.map((row) => [row.title, row.got === undefined ? '-' : `${row.got.toFixed(row.digits)} ${row.unit}`.trim(), row.must, row.aim, word(row)]),
  ]);
}
