import { describe, expect, it } from 'vitest';
import { type JsonLimits, scanJson } from '../dist/index.js';
import { agree } from './fixtures/agree.js';

// Internal modules, which the declarations leave out.
const { passesFastPath } = (await import('../dist/validators/json-fast-path.js' as string)) as {
  passesFastPath: (input: Uint8Array, length: number, limits: Float64Array) => boolean;
};
const { checkedJsonLimits } = (await import('../dist/validators/json-limits.js' as string)) as {
  checkedJsonLimits: (field: string, limits: JsonLimits) => Float64Array;
};
const { checkMessage } = (await import('../dist/validators/json.js' as string)) as {
  checkMessage: (
    input: string | Uint8Array,
    limits: Float64Array,
  ) => { readonly code: string; readonly path: unknown; readonly offset: number } | undefined;
};

const room = new Uint8Array(4096);
function passes(text: string, limits: JsonLimits = {}, behind = 0x5d): boolean {
  const bytes = Buffer.from(text);
  room.fill(behind);
  room.set(bytes);
  return passesFastPath(room, bytes.length, checkedJsonLimits('limits', limits));
}

/** Makes a generator of pseudo-random numbers below `most`, decided by a seed. */
function random(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    return Math.floor(((state >>> 8) / 2 ** 24) * most);
  };
}

const PIECES = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '"a"',
  '"b"',
  '"a":',
  '"b":1,',
  '"__proto__":',
  '"constructor":',
  '1',
  '-',
  '0',
  '01',
  '1.5',
  '1e5',
  '1e999',
]
  .concat([
    'true',
    'false',
    'null',
    'nul',
    ' ',
    '\n',
    '\t',
    '\f',
    '\\',
    '"\\u0000"',
    '"é"',
    '"\ud800"',
    '9'.repeat(15),
    '9'.repeat(16),
    '\0',
    '\u007f',
    '{}',
    '[]',
  ])
  .concat(['{"a":1,"a":2}', '{"a":{"a":1},"b":[{"a":1}]}', '"AaBB"', '"BBAa":', '"AaBB":']);

describe('the fast path of messages', () => {
  it('passes no message that the scanner refuses, with any text and any limits', () => {
    const next = random(20_261_125);
    let passed = 0;
    for (let run = 0; run < 60_000; run++) {
      let text = '';
      if (next(2) === 0)
        for (let length = next(9); length >= 0; length--) text += PIECES[next(PIECES.length)];
      else {
        // A valid message, with one piece replaced.
        text = JSON.stringify({
          type: 'say',
          id: next(1000),
          list: [1, null, { a: true, b: 'x y' }],
          o: { a: {}, b: [] },
          text: 'a'.repeat(next(20)),
        });
        const at = next(text.length);
        if (next(3) > 0)
          text = text.slice(0, at) + PIECES[next(PIECES.length)] + text.slice(at + next(3));
      }
      const limits: JsonLimits =
        next(3) > 0
          ? {}
          : {
              maxBytes: next(200),
              maxDepth: next(5),
              maxValues: 1 + next(12),
              maxKeys: next(6),
              maxItems: next(4),
              maxStringBytes: next(12),
              maxKeyBytes: next(6),
            };
      const isPassed = passes(text, limits);
      if (isPassed) passed++;
      const bytes = Buffer.from(text);
      const scanned = scanJson(bytes, limits);
      if (isPassed && !scanned.success)
        throw new Error(
          `${JSON.stringify(text)} passed with ${JSON.stringify(limits)}, though it is ${scanned.error.code}`,
        );
      // Otherwise the failure is that of the scanner, for a string as for its bytes.
      for (const given of [bytes, ...(text.isWellFormed() ? [text] : [])]) {
        const verdict = checkMessage(given, checkedJsonLimits('limits', limits));
        agree(
          verdict && [verdict.code, verdict.offset, verdict.path],
          scanned.success
            ? undefined
            : [scanned.error.code, scanned.error.offset, scanned.error.path],
          text,
        );
      }
    }
    expect(passed).toBeGreaterThan(5000);
  });

  it('passes common messages of up to 512 bytes, and leaves the rest to the scanner', () => {
    for (const text of [
      '{}',
      '[]',
      '0',
      '-1',
      'true',
      'null',
      '""',
      ' {"type":"ping"} ',
      '{"a":{"a":[{"a":1},{"a":2}]},"b":"x"}',
      `"${'x'.repeat(510)}"`,
    ]) {
      expect([text, passes(text)]).toEqual([text, true]);
    }
    for (const text of [
      '',
      ' ',
      '{"a":1,"a":2}',
      '{"__proto__":1}',
      '{"constructor":1}',
      // A repeated key around a nested object, and objects beyond the depth and the count of stored keys.
      '{"a":{"b":1},"a":2}',
      `${'{"k":'.repeat(7)}{"a":1,"a":2}${'}'.repeat(7)}`,
      `${'{"k":'.repeat(8)}{"a":1,"a":2}${'}'.repeat(8)}`,
      `${'['.repeat(9)}${']'.repeat(9)}`,
      `{${Array.from({ length: 17 }, (_, at) => `"k${at}":1`).join()}}`,
      '1.5',
      '"\\n"',
      '"é"',
      '01',
      '-',
      '[1,]',
      '{"a"}',
      '1 2',
      '"',
      '[',
      '{"a":',
      'tru',
    ]) {
      expect([text, passes(text)]).toEqual([text, false]);
    }
    expect(passes(`"${'x'.repeat(511)}"`)).toBe(false);
    expect(passes(`{${Array.from({ length: 16 }, (_, at) => `"k${at}":1`).join()}}`)).toBe(true);
    expect(passes(`${'['.repeat(8)}${']'.repeat(8)}`)).toBe(true);
    // A longer message before it may leave any byte behind its end.
    for (const behind of ['5', ' ', '"', ',', '}'])
      expect([behind, passes('12', {}, behind.charCodeAt(0))]).toEqual([behind, true]);
  });
});
