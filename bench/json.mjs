// Measures the JSON scanner: its speed, its cost beside JSON.parse, and the cost of a hostile body.
// Run: node bench/json.mjs
import { parseJson, scanJson } from '../dist/index.js';
import { compare, machine, median, timed, verdict } from './compare.mjs';

/** Most time of scan + JSON.parse, of that of JSON.parse alone. */
const MOST = 'bun' in process.versions ? 1.6 : 1.25;
/** Most time of a refusal, of that of JSON.parse. */
const MOST_OF_REFUSAL = 1 / 20;

console.log(machine);

/** Returns records as an API sends them; each seed gives another text. */
function records(bytes, seed) {
  const list = [];
  for (let i = 0, size = 2; size < bytes; i++) {
    const record = {
      id: 100_000 + i * 7 + seed,
      type: i % 3 === 0 ? 'order' : 'message',
      user: { name: `user-${seed}-${i}`, email: `user${i}@example.com`, isActive: i % 2 === 0 },
      tags: ['alpha', 'beta', `tag${i % 50}`],
      amount: i * 1.25,
      note: i % 4 === 0 ? 'He said "yes"\nand left.' : null,
      createdAt: '2026-01-01T12:00:00.000Z',
    };
    list.push(record);
    size += JSON.stringify(record).length + 1;
  }
  return JSON.stringify(list);
}

/** Returns fresh strings: each call sees an object of its own, and no string with a cached hash. */
const copies = (text, count) =>
  Array.from({ length: count }, () => Buffer.from(text).toString('latin1'));

for (const bytes of [1 << 10, 16 << 10, 1 << 20]) {
  const text = records(bytes, 1);
  const size = Buffer.byteLength(text);
  const limits = { maxBytes: 1 << 24 };
  const buffer = Buffer.from(text);
  const count = Math.max(8, Math.floor((4 << 20) / size));
  const gigabytes = [];
  for (let round = 0; round < 9; round++) {
    const each = timed(count, () => {
      if (!scanJson(buffer, limits).success) throw new Error('refused');
    });
    gigabytes.push(size / each);
  }
  console.log(`scan of a Buffer of ${size} bytes: ${median(gigabytes).toFixed(2)} GB/s`);
  const strings = () => copies(text, count);
  const [parseNs, scannedNs] = compare(`string of ${size} bytes`, [
    [
      'JSON.parse',
      () => {
        const list = strings();
        return timed(count, (i) => JSON.parse(list[i]));
      },
    ],
    [
      'scan + JSON.parse',
      () => {
        const list = strings();
        return timed(count, (i) => parseJson(list[i], limits));
      },
    ],
  ]);
  verdict('scan + JSON.parse', scannedNs / parseNs, 'x', { most: MOST });
  compare(`Buffer of ${size} bytes`, [
    ['toString, JSON.parse', () => timed(count, () => JSON.parse(buffer.toString()))],
    ['scan + JSON.parse', () => timed(count, () => parseJson(buffer, limits))],
  ]);
}

const MIB = 1 << 20;
const fill = (piece, open, close) =>
  open +
  piece.repeat(Math.floor((MIB - open.length - close.length) / piece.length)).slice(0, -1) +
  close;
const keys = () => {
  const parts = [];
  for (let i = 0, size = 0; size < MIB - 20; i++) {
    parts.push(`"k${i}":0`);
    size += parts.at(-1).length + 1;
  }
  return `{${parts.join(',')}}`;
};
const hostile = {
  'nested [': '['.repeat(MIB / 2) + ']'.repeat(MIB / 2),
  'many [],': fill('[],', '[', ']'),
  'many {},': fill('{},', '[', ']'),
  'many 0,': fill('0,', '[', ']'),
  'many keys': keys(),
};
for (const [name, text] of Object.entries(hostile)) {
  const buffer = Buffer.from(text);
  for (const [form, input] of [
    ['string', text],
    ['Buffer', buffer],
  ]) {
    const [parseNs, refusalNs] = compare(
      `hostile, ${name}, ${form} of 1 MiB`,
      [
        [
          'JSON.parse',
          () => timed(1, () => JSON.parse(form === 'string' ? text : buffer.toString())),
        ],
        ['refusal', () => timed(1, () => scanJson(input).success)],
      ],
      { rounds: 7 },
    );
    verdict('refusal, of JSON.parse', refusalNs / parseNs, 'x', { most: MOST_OF_REFUSAL });
  }
}
