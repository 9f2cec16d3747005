import { describe, expect, it } from 'vitest';
import { randomOf } from '../load/interval.mjs';

// Internal, so it has no declarations.
const { SharedTexts } = (await import('../dist/base/shared-texts.js' as string)) as {
  SharedTexts: new () => { of(text: string): string };
};
const MB = 2 ** 20;
/** Returns a text of 200 characters and a number, in memory of its own. */
const fresh = (number: number): string =>
  Buffer.from(`${'x'.repeat(200)} ${number}`).toString('latin1');

/** Returns the growth of the heap while `run` runs and its result is held, MB. */
function heapMb(run: () => unknown): number {
  const before = process.memoryUsage().heapUsed;
  const held = run();
  const grown = (process.memoryUsage().heapUsed - before) / MB;
  expect(held).toBeDefined();
  return grown;
}

// Bun's figures of the heap tell little.
const isBun = 'bun' in process.versions;
if (isBun) console.log('skipped on Bun, whose heap figures are not exact: the memory of texts');

describe('shared texts', () => {
  it('are equal to the given ones', () => {
    const random = randomOf(3);
    const texts = new SharedTexts();
    for (let step = 0; step < 20_000; step++) {
      const kind = Math.floor(random() * 1000);
      const text = kind < 10 ? 'x'.repeat(252 + kind) : kind === 11 ? '' : `agent/${kind}`;
      expect(texts.of(text)).toBe(text);
    }
  });

  // 300,000 texts of 200 characters take 66 MB, an array of references 2.4 MB.
  it.skipIf(isBun)('take the memory of one', () => {
    const texts = new SharedTexts();
    const many = Array.from({ length: 300_000 });
    const grown = heapMb(() => many.map((_, at) => texts.of(fresh(at % 100))));
    expect(grown).toBeLessThan(40);
  });

  it.skipIf(isBun)('are forgotten beyond a number', () => {
    const texts = new SharedTexts();
    const grown = heapMb(() => {
      for (let at = 0; at < 1_000_000; at++) texts.of(fresh(at));
      return texts;
    });
    // 250 MB, if all of them were kept.
    expect(grown).toBeLessThan(120);
  });
});
