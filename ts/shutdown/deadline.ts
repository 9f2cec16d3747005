/** Waiting until a time that is set. */
import type { TimerManager } from '../timers/manager.js';

/** A time to come, until which other work can be awaited. */
export class Deadline {
  /** Whether the time has come. */
  isPast = false;
  /** Clears the timer. The time never comes then. */
  readonly cancel: () => void;
  readonly #passed: Promise<void>;

  constructor(timers: TimerManager, delayMs: number) {
    const { promise, resolve } = deferred<void>();
    const timer = timers.setTimeout(() => {
      this.isPast = true;
      resolve();
    }, delayMs);
    this.#passed = promise;
    this.cancel = () => void timer.close();
  }

  /** Waits for `work`, but not beyond the deadline. Rejects if `work` does. */
  async race(work: Promise<unknown>): Promise<void> {
    await Promise.race([work, this.#passed]);
  }
}

/** `Promise.withResolvers`, which Node 20 lacks. */
export function deferred<T>(): {
  readonly promise: Promise<T>;
  readonly resolve: (value: T | PromiseLike<T>) => void;
} {
  let resolve: (value: T | PromiseLike<T>) => void = () => undefined;
  const promise = new Promise<T>((done) => (resolve = done));
  return { promise, resolve };
}
