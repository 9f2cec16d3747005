import { describe, expect, it } from 'vitest';
import { type JsonLimits, scanJson } from '../dist/index.js';
import { agree } from './fixtures/agree.js';

// Internal, and so not in the declarations.
const { isPlainJson } = (await import('../dist/validators/json-fast-path.js' as string)) as {
  isPlainJson: (input: Uint8Array, length: number, limits: Float64Array) => boolean;
};
const { checkedJsonLimits, judgeMessage } = (await import(
  '../dist/validators/json.js' as string
)) as {
  checkedJsonLimits: (what: string, limits: JsonLimits) => Float64Array;
  judgeMessage: (
    input: string | Uint8Array,
    limits: Float64Array,
  ) => { readonly code: string; readonly path: unknown; readonly offset: number } | undefined;
};

const room = new Uint8Array(4096);
function isPlain(text: string, limits: JsonLimits = {}, behind = 0x5d): boolean {
  const bytes = Buffer.from(text);
  room.fill(behind);
  room.set(bytes);
  return isPlainJson(room, bytes.length, checkedJsonLimits('limits', limits));
}

/** Numbers that the seed decides. */
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

describe('the first look at messages', () => {
  it('passes nothing that the scanner refuses, whatever the text and the limits', () => {
    const next = random(20_261_125);
    let passed = 0;
    for (let run = 0; run < 60_000; run++) {
      let text = '';
      if (next(2) === 0)
        for (let length = next(9); length >= 0; length--) text += PIECES[next(PIECES.length)];
      else {
        // One that is good, with a piece of it exchanged.
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
      const good = isPlain(text, limits);
      if (good) passed++;
      const bytes = Buffer.from(text);
      const scanned = scanJson(bytes, limits);
      if (good && !scanned.success)
        throw new Error(
          `${JSON.stringify(text)} passed with ${JSON.stringify(limits)}, though it is ${scanned.error.code}`,
        );
      // Behind it the verdict is the scanner's own, with all that belongs to it; of a string as of its bytes.
      for (const given of [bytes, ...(text.isWellFormed() ? [text] : [])]) {
        const verdict = judgeMessage(given, checkedJsonLimits('limits', limits));
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

  it('passes what clients usually send, up to 512 bytes, and leaves the rest to the scanner', () => {
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
      expect([text, isPlain(text)]).toEqual([text, true]);
    }
    for (const text of [
      '',
      ' ',
      '{"a":1,"a":2}',
      '{"__proto__":1}',
      '{"constructor":1}',
      // Doubled around an object of its own keys, and deeper or longer than keys are kept for.
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
      expect([text, isPlain(text)]).toEqual([text, false]);
    }
    expect(isPlain(`"${'x'.repeat(511)}"`)).toBe(false);
    expect(isPlain(`{${Array.from({ length: 16 }, (_, at) => `"k${at}":1`).join()}}`)).toBe(true);
    expect(isPlain(`${'['.repeat(8)}${']'.repeat(8)}`)).toBe(true);
    // Whatever an earlier, longer message has left behind it.
    for (const behind of ['5', ' ', '"', ',', '}'])
      expect([behind, isPlain('12', {}, behind.charCodeAt(0))]).toEqual([behind, true]);
  });
});
