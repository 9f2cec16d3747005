import { describe, expect, it } from 'vitest';
import { randomOf } from '../load/interval.mjs';

// Internal, so it has no declarations.
const { SharedTexts } = (await import('../dist/base/shared-texts.js' as string)) as {
  SharedTexts: new () => { of(text: string): string };
};

describe('shared texts', () => {
  it('are equal to those that were given, whatever strangers send', () => {
    const random = randomOf(3);
    const texts = new SharedTexts();
    for (let step = 0; step < 20_000; step++) {
      const kind = Math.floor(random() * 1000);
      const text = kind < 10 ? 'x'.repeat(252 + kind) : kind === 11 ? '' : `agent/${kind}`;
      expect(texts.of(text)).toBe(text);
    }
  });

  it('take bounded memory', () => {
    const texts = new SharedTexts();
    const before = process.memoryUsage().heapUsed;
    // 250 MB, if all were kept.
    for (let at = 0; at < 1_000_000; at++) texts.of(`agent/${at} ${'x'.repeat(200)}`.slice(1));
    expect(process.memoryUsage().heapUsed - before).toBeLessThan(120 * 2 ** 20);
  });
});
