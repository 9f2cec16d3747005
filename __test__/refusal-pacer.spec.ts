import { describe, expect, it } from 'vitest';

// Internal, and so not in the declarations.
const { RefusalPacer } = (await import('../dist/adapters/refusal-pacer.js' as string)) as {
  RefusalPacer: new () => { answer(result: unknown): unknown };
};

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('a turn of the loop', () => {
  it('answers 32 refusals at once and the rest at its end, in their order', async () => {
    for (let round = 0; round < 3; round++) {
      const turn = new RefusalPacer();
      const responses = Array.from(
        { length: 100 },
        (_, index) => new Response(null, { status: 200 + index }),
      );
      const seen: number[] = [];
      const answers = responses.map((response) => turn.answer(response));
      const late = answers.filter((answer) => answer instanceof Promise);
      expect(answers.slice(0, 32)).toEqual(responses.slice(0, 32));
      expect(late).toHaveLength(68);
      for (const answer of late)
        void answer.then((response: Response) => seen.push(response.status));
      await Promise.resolve();
      expect(seen).toEqual([]);
      await nextTurn();
      await nextTurn();
      expect(seen).toEqual(responses.slice(32).map(({ status }) => status));
      // The next turn answers another 32 at once.
      expect(turn.answer(responses[0])).toBe(responses[0]);
      await nextTurn();
    }
  });

  it('counts those that had to be waited for, and neither those that were let in nor what is thrown', async () => {
    const turn = new RefusalPacer();
    const response = new Response();
    for (let count = 0; count < 100; count++) expect(turn.answer(undefined)).toBe(undefined);
    const failure = new Error('of the application');
    await expect(turn.answer(Promise.reject(failure))).rejects.toBe(failure);
    expect(await turn.answer(Promise.resolve(undefined))).toBe(undefined);
    await nextTurn();
    const order: string[] = [];
    const waited = Array.from(
      { length: 40 },
      () => turn.answer(Promise.resolve(response)) as Promise<Response>,
    );
    for (const answer of waited) void answer.then(() => order.push('answer'));
    setImmediate(() => order.push('turn'));
    expect(await Promise.all(waited)).toEqual(Array.from({ length: 40 }, () => response));
    expect([order.indexOf('turn'), order.length]).toEqual([32, 41]);
  });
});
