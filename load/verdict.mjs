// Medians of the rounds of a host, and their comparison with the targets.

const MIB = 2 ** 20;
/** Returns the median: the mean of the two middle values of an even number of them. */
export const median = (list) => {
  const sorted = list.toSorted((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

/**
 * Returns the rounds' medians of every number in an object; other values are those of the last
 * round.
 */
export function medians(rounds) {
  const last = rounds.at(-1);
  if (typeof last === 'number') return median(rounds.filter((value) => typeof value === 'number'));
  if (typeof last !== 'object' || last === null || Array.isArray(last)) return last;
  return Object.fromEntries(
    Object.keys(last).map((key) => [key, medians(rounds.map((round) => round?.[key]))]),
  );
}

const RSS_MAX_MB = { bun: 256, node: 512 };

/** The ways to bound a figure: the sign in the table, and the comparison. */
const BOUNDS = {
  least: ['>= ', (got, bound) => got >= bound],
  most: ['<= ', (got, bound) => got <= bound],
  below: ['< ', (got, bound) => got < bound],
  exactly: ['', (got, bound) => got === bound],
};

/** Returns the CPU time of a message that a contestant adds to that of the bare server. */
const added = (round, name) =>
  (round[name]?.burst.cpuPerMillion ?? NaN) - (round.bare?.burst.cpuPerMillion ?? NaN);

/** The targets that compare portcullis with another contestant: ratios within a round. */
const RATIOS = [
  {
    title: 'throughput, of bare',
    figure: ({ portcullis, bare }) => portcullis?.burst.perSecond / bare?.burst.perSecond,
    digits: 3,
    bound: 'least',
    must: 0.95,
    aim: 0.98,
  },
  {
    title: 'round trip p99, of bare',
    figure: ({ portcullis, bare }) => portcullis?.steady.p99Ms / bare?.steady.p99Ms,
    digits: 2,
    bound: 'most',
    must: 1.1,
    aim: 1.03,
  },
  {
    title: 'CPU a message above bare, of what npm adds',
    figure: (round) => added(round, 'portcullis') / added(round, 'npm'),
    digits: 2,
    bound: 'most',
    must: 0.4,
    aim: 0.15,
  },
];

/** The targets of portcullis alone: the worst of the rounds counts. */
const ABSOLUTES = (host) => [
  {
    title: 'resident memory, most of all phases',
    figure: ({ rssBytes }) => rssBytes / MIB,
    unit: 'MB',
    digits: 0,
    bound: 'below',
    must: RSS_MAX_MB[host],
  },
  {
    title: 'average response',
    figure: ({ steady }) => steady.meanMs,
    unit: 'ms',
    digits: 2,
    bound: 'below',
    must: 10,
  },
  {
    title: 'messages lost, wrong or unanswered',
    figure: ({ steady, burst, wrong }) =>
      steady.sent - steady.answered + burst.unanswered + wrong.answers + wrong.lost,
    digits: 0,
    bound: 'exactly',
    must: 0,
  },
  {
    title: 'flood: loop delay p99, worst round',
    figure: ({ flood }) => flood.delayP99Ms,
    unit: 'ms',
    digits: 1,
    bound: 'most',
    must: 50,
  },
];

function judged(got, { title, unit = '', digits, bound, must, aim }) {
  const [sign, passes] = BOUNDS[bound];
  return {
    unit,
    aim: aim === undefined ? '' : `${sign}${aim}`,
    isExact: bound === 'exactly',
    title,
    got,
    digits,
    must: `${sign}${must}`,
    pass: got === undefined ? undefined : passes(got, must),
  };
}

/**
 * Compares the figures of portcullis with its targets. A ratio is the median of the rounds' ratios.
 * @param rounds the figures of each round by contestant
 * @returns rows; `pass` is undefined where the contestant to compare with did not run
 */
export function verdictOf(host, rounds) {
  const middle = (figure) => {
    const values = rounds.map(figure).filter((value) => Number.isFinite(value));
    return values.length === 0 ? undefined : median(values);
  };
  const ours = rounds.map((round) => round.portcullis).filter(Boolean);
  const ofOurs = (value) => (ours.length === 0 ? undefined : value());
  return [
    ...RATIOS.map((target) => judged(middle(target.figure), { unit: 'x', ...target })),
    ...ABSOLUTES(host).map((target) =>
      judged(
        ofOurs(() => Math.max(...ours.map(target.figure))),
        target,
      ),
    ),
    judged(
      ofOurs(() => ours.filter(({ seats }) => !seats.areExact).length),
      {
        title: 'flood: rounds whose seats were not exact',
        digits: 0,
        bound: 'exactly',
        must: 0,
      },
    ),
  ];
}

const whole = (value) => Math.round(value).toLocaleString('en-US');
const FIGURES = [
  ['messages a second', ({ burst }) => whole(burst.perSecond)],
  ['server busy meanwhile, %', ({ burst }) => (burst.serverBusy * 100).toFixed(0)],
  ['CPU s per million messages', ({ burst }) => burst.cpuPerMillion.toFixed(2)],
  ['the same at the set rate', ({ steady }) => steady.cpuPerMillion.toFixed(2)],
  [
    'round trip p50 / p99, ms',
    ({ steady }) => `${steady.p50Ms.toFixed(3)} / ${steady.p99Ms.toFixed(2)}`,
  ],
  [
    'loop delay p99, set rate / burst, ms',
    ({ steady, burst }) => `${steady.delayP99Ms.toFixed(1)} / ${burst.delayP99Ms.toFixed(1)}`,
  ],
  ['connects a second', ({ connectsPerSecond }) => whole(connectsPerSecond)],
  [
    'memory per idle connection, KB',
    ({ bytesPerConnection }) => (bytesPerConnection / 1024).toFixed(1),
  ],
  [
    'resident memory idle / most, MB',
    ({ idleRssBytes, rssBytes }) =>
      `${(idleRssBytes / MIB).toFixed(0)} / ${(rssBytes / MIB).toFixed(0)}`,
  ],
  ['flood: seconds', ({ flood }) => flood?.seconds.toFixed(1) ?? '-'],
  ['flood: server CPU a refusal, µs', ({ flood }) => flood?.cpuMicros.toFixed(0) ?? '-'],
  ['flood: loop delay p99, ms', ({ flood }) => flood?.delayP99Ms.toFixed(1) ?? '-'],
  ['seats exact', ({ seats }) => (seats ? (seats.areExact ? 'yes' : 'no') : '-')],
];

/** Aligns rows in columns: the first column to the left, the others to the right. */
export function columns(rows) {
  const widths = rows[0].map((_, at) => Math.max(...rows.map((row) => row[at].length)));
  return rows
    .map((row) =>
      row
        .map((text, at) => (at === 0 ? text.padEnd(widths[at]) : text.padStart(widths[at])))
        .join('  '),
    )
    .join('\n');
}

/** Renders the figures of a host. */
export function tableOf(figures) {
  const names = Object.keys(figures);
  return columns([
    ['', ...names],
    ...FIGURES.map(([title, text]) => [title, ...names.map((name) => text(figures[name]))]),
  ]);
}

/** Returns a sentence on the rows of all hosts. */
export function closing(rows) {
  const judged = rows.filter(({ pass }) => pass !== undefined);
  const missed = judged.filter(({ pass }) => !pass).length;
  if (judged.length === 0)
    return 'Nothing was to be judged: all targets are those of portcullis, which did not run.';
  if (missed > 0) return `${missed} of ${judged.length} missed.`;
  return judged.length === rows.length
    ? 'All is met.'
    : `All that was measured is met; ${rows.length - judged.length} of ${rows.length} were not.`;
}

/** Renders the targets with the figures of portcullis. */
export function verdictText(rows) {
  const word = ({ pass }) => (pass === undefined ? 'not measured' : pass ? 'met' : 'MISSED');
  return columns([
    ['portcullis, everything on', 'got', 'must', 'aim', ''],
    ...rows.map((row) => [
      row.title,
      row.got === undefined ? '-' : `${row.got.toFixed(row.digits)} ${row.unit}`.trim(),
      row.must,
      row.aim,
      word(row),
    ]),
  ]);
}
