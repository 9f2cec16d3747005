/**
 * One turn of Bun's loop. Within it Bun takes connections until none waits, and answers each at once: as long as clients that
 * are refused come back faster than that, no timer runs and no message is read. So some are answered at the turn's end.
 */

/** Answered at once in a turn. */
const REFUSALS_PER_TURN = 32;
const { setImmediate } = globalThis;

/** @internal */
export class RefusalPacer {
  #answered = 0;
  readonly #waiting: (() => void)[] = [];

  /** Answers an upgrade: what is no response, since it was let in, passes. */
  answer(result: unknown): unknown {
    if (result instanceof Promise) return result.then((value: unknown) => this.answer(value));
    if (!(result instanceof Response)) return result;
    if (this.#answered++ === 0) setImmediate(() => this.#end());
    if (this.#answered <= REFUSALS_PER_TURN) return result;
    return new Promise((resolve) => void this.#waiting.push(() => resolve(result)));
  }

  #end(): void {
    this.#answered = 0;
    for (const answer of this.#waiting.splice(0)) answer();
  }
}
