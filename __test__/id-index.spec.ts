import { expect, it } from 'vitest';
import { encodeName, parseIpv4 } from '../dist/native/strings.js';
import { IdIndex, hashOf } from '../dist/connections/id-index.js';
import { agree } from './fixtures/agree.js';
import { randomOf } from './fixtures/random.js';

interface Entry {
  readonly id: string;
}

const segmentsOf = (count: number): Segment<Entry>[] =>
  Array.from(
    { length: count },
    () => ({ connections: [] as (Entry | undefined)[] }) as unknown as Segment<Entry>,
  );

// Property: finds exactly the ids that a Map finds, after any additions and removals. Also with hashes
// cut to a few bits, so that clusters form, wrap around and close again.
it.each([
  [1, -1],
  [2, -1],
  [3, 0b111],
  [4, 0b11],
  [5, 0b1_0000_0001],
  [6, 0],
])('agrees with a Map over random operations (seed %i, hash & %i)', (seed, bits) => {
  const random = randomOf(seed);
  const segments = segmentsOf(1);
  const index = new IdIndex(segments);
  const model = new Map<string, number>();
  const free = Array.from({ length: 600 }, (_, slot) => slot);
  for (let step = 0; step < 20_000; step++) {
    const id = `${random(2) === 0 ? 'id-' : 'ü\u{1f600}'}${random(700)}`;
    const hash = hashOf(id) & bits;
    const slot = model.get(id);
    const found = index.find(id, hash);
    agree(found?.id, slot === undefined ? undefined : id, step);
    // The index grows for 2,048 steps and shrinks for as many.
    const isGrowing = (step >> 11) % 2 === 0;
    if (slot === undefined && free.length > 0 && (isGrowing || random(4) === 0)) {
      const taken = free.splice(random(free.length), 1)[0] ?? 0;
      segments[0]!.connections[taken] = { id };
      index.add(hash, taken);
      model.set(id, taken);
    } else if (slot !== undefined && (!isGrowing || random(4) === 0)) {
      index.remove(hash, slot);
      segments[0]!.connections[slot] = undefined;
      model.delete(id);
      free.push(slot);
    }
    agree(index.size, model.size, step);
  }
  for (const id of model.keys()) expect(index.find(id, hashOf(id) & bits)?.id).toBe(id);
});

it('gives different hashes to ids that differ by a zero, a length or the order', () => {
  const ids = [
    '',
    '\0',
    '\0\0',
    'a',
    'a\0',
    '\0a',
    'ab',
    'ba',
    'abc',
    'acb',
    'ā',
    'āb',
    'a\u0100',
    'x'.repeat(1023),
    'x'.repeat(1024),
  ];
  // 105 pairs: a collision by chance is one in 2^32 / 105.
  expect(new Set(ids.map(hashOf)).size).toBe(ids.length);
  // Packed as pairs of bytes, these would be the same: two wide units, and a wide unit and a pair.
  expect(hashOf('\u0101\u0101')).not.toBe(hashOf('\u0101\u0102'));
  expect(hashOf('\u0101\u0000')).not.toBe(hashOf('\u0001\u0001'));
});

it('spreads ids that are counted up', () => {
  const seen = new Set<number>();
  for (let i = 0; i < 4096; i++) seen.add(hashOf(`connection-${i}`) & 0xffff);
  // 4,096 balls in 65,536 bins fill 3,970 of them.
  expect(seen.size).toBeGreaterThan(3700);
});

it('reads IPv4 addresses as the core does, and nothing else', () => {
  expect(parseIpv4('0.0.0.0')).toBe(0);
  expect(parseIpv4('255.255.255.255')).toBe(0xffff_ffff);
  expect(parseIpv4('192.0.2.1')).toBe(0xc000_0201);
  expect(parseIpv4('::ffff:192.0.2.1')).toBe(0xc000_0201);
  expect(parseIpv4('::ffff:255.255.255.255')).toBe(0xffff_ffff);
  const none = [
    '',
    '.',
    '1',
    '1.2.3',
    '1.2.3.',
    '.1.2.3',
    '1..2.3',
    '1.2.3.4.',
    '1.2.3.4.5',
    '256.1.1.1',
    '1.1.1.256',
    '01.2.3.4',
    '1.2.3.04',
    '00.0.0.0',
  ];
  const odd = [
    '1.2.3.4:80',
    ' 1.2.3.4',
    '1.2.3.4 ',
    '1.2.3.-4',
    '1.2.3.4a',
    '::1',
    '::ffff:',
    '::ffff:1.2.3',
    '::ffff:102:304',
    '::FFFF:1.2.3.4',
    '1.2.3.1e1',
    '９.1.1.1',
  ];
  for (const text of [...none, ...odd, '9'.repeat(400), '1.2.3.99999999999'])
    expect(parseIpv4(text), text).toBe(-1);
});

it('hands a name that does not fit into shared memory over as a string', () => {
  const text = new Uint16Array(64);
  expect(encodeName('x'.repeat(65), text)).toBe('x'.repeat(65));
  const short = encodeName('ünï', text);
  if ('bun' in process.versions) {
    expect(short).toBe(3);
    expect(String.fromCharCode(...text.subarray(0, 3))).toBe('ünï');
  } else expect(short).toBe('ünï');
});
