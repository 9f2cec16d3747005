/** Errors of a shutdown's steps. */
import { outOfRange, wrongType } from '../base/errors.js';
import { Hooks, isThenable } from '../base/hooks.js';
import type { Deadline } from './deadline.js';
import type { Drainable, ShutdownSocket } from './drainable.js';
import type { ShutdownError } from './result.js';

/**
 * Runs steps that may throw, and collects their errors. A step that fails does not stop the next.
 */
export class ErrorCollector {
  readonly #errors: ShutdownError[] = [];
  readonly #onError: ((error: unknown, name: string) => void) | undefined;
  readonly #hooks = new Hooks();
  #isClosed = false;

  constructor(onError: ((error: unknown, name: string) => void) | undefined) {
    this.#onError = onError;
  }

  /** The errors so far. */
  get errors(): readonly ShutdownError[] {
    return this.#errors;
  }

  /** Ends collecting: later errors are reported. */
  close(): void {
    this.#isClosed = true;
  }

  /** Runs a step. Returns its result, or `undefined` if it throws. A promise is not awaited; its rejection is collected. */
  attempt<T>(name: string, step: () => T): T | undefined {
    try {
      const result = step();
      if (isThenable(result)) void this.settle(name, () => result);
      return result;
    } catch (error) {
      this.collect(name, error);
      return undefined;
    }
  }

  /** Returns the open WebSockets of a drainable, or none if listing them throws. Leaves out entries that are no sockets. */
  socketsOf(drainable: Drainable): readonly ShutdownSocket[] {
    const step = `${drainable.name}.sockets`;
    const list = (): ShutdownSocket[] => [...(drainable.sockets?.() ?? [])];
    return (this.attempt(step, list) ?? []).filter((socket: unknown) => {
      if (typeof socket === 'object' && socket !== null) return true;
      this.collect(step, wrongType('socket', socket, 'an object'));
      return false;
    });
  }

  /** Returns the number of a drainable's requests in flight; 0 if it throws, or tells no whole number of at least 0. */
  requestsOf(drainable: Drainable): number {
    const step = `${drainable.name}.requests`;
    const count: unknown = this.attempt(step, () => drainable.requests?.());
    if (count === undefined) return 0;
    if (Number.isSafeInteger(count) && (count as number) >= 0) return count as number;
    const wrong = typeof count === 'number' ? outOfRange : wrongType;
    this.collect(step, wrong('requests', count, 'a whole number of at least 0'));
    return 0;
  }

  /** Runs a step and awaits it. An error that comes after `deadline` is reported. */
  async settle(name: string, step: () => unknown, deadline?: Deadline): Promise<void> {
    try {
      await step();
    } catch (error) {
      if (deadline?.isPast === true) this.report(name, error);
      else this.collect(name, error);
    }
  }

  /** Adds an error to the result, and tells `onError` of it. */
  collect(name: string, error: unknown): void {
    if (this.#isClosed) return this.report(name, error);
    this.#errors.push({ name, error });
    this.tell(name, error);
  }

  /** Tells `onError` of an error that no result has; without `onError` it is a process warning. */
  report(name: string, error: unknown): void {
    if (this.#onError === undefined) this.#hooks.warn(`shutdown: ${name}`, error);
    else this.tell(name, error);
  }

  /** Calls `onError`. */
  tell(name: string, error: unknown): void {
    const onError = this.#onError;
    if (onError !== undefined) this.#hooks.run('onError', () => onError(error, name));
  }
}
