/**
 * Paces the refusals of Bun's servers. Within one turn of the event loop Bun accepts connections until none
 * waits, and answers each at once. Refused clients that reconnect faster than that keep the loop from its
 * timers and messages, so refusals beyond some are delayed to the end of the turn.
 */

/** Refusals sent at once in a turn. */
const REFUSALS_PER_TURN = 32;
const { setImmediate } = globalThis;

/** Delays refusals to the end of a turn. @internal */
export class RefusalPacer {
  #answered = 0;
  readonly #waiting: (() => void)[] = [];

  /** Passes admitted upgrades through; delays refusals beyond `REFUSALS_PER_TURN` to the end of the turn. */
  answer(result: unknown): unknown {
    if (result instanceof Promise) return this.#later(result);
    if (!(result instanceof Response)) return result;
    if (this.#answered++ === 0) setImmediate(() => this.#end());
    return this.#answered <= REFUSALS_PER_TURN ? result : this.#delayed(result);
  }

  // Functions of their own: an engine makes the scope of a closure where the function begins.
  #later(result: Promise<unknown>): Promise<unknown> {
    return result.then((value: unknown) => this.answer(value));
  }

  #delayed(result: Response): Promise<Response> {
    return new Promise((resolve) => void this.#waiting.push(() => resolve(result)));
  }

  #end(): void {
    this.#answered = 0;
    for (const answer of this.#waiting.splice(0)) answer();
  }
}
