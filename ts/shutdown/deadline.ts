/** Waiting, until a time that was set. */
import type { TimerManager } from '../timers/manager.js';

/** A moment to come, that other things can be waited for until. */
export class Deadline {
  isPast = false;
  readonly #come: Promise<void>;
  readonly cancel: () => void;

  constructor(timers: TimerManager, delayMs: number) {
    const { promise, resolve } = deferred<void>();
    const timer = timers.setTimeout(() => {
      this.isPast = true;
      resolve();
    }, delayMs);
    this.#come = promise;
    this.cancel = () => void timer.close();
  }

  async race(work: Promise<unknown>): Promise<void> {
    await Promise.race([work, this.#come]);
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
