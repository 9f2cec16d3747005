/**
 * Hooks: functions of the application that this package calls. Many run because of a client's
 * action, so a hook that fails must not end the server.
 */

/** Most names that one object warns of: an application may make new names without end. */
const WARNED_MAX = 100;

/**
 * Runs hooks. The first error of each hook becomes a process warning, with the error as its
 * `cause`.
 * @internal
 */
export class Hooks {
  readonly #warned = new Set<string>();

  /** Runs `hook`. Catches its error, and the rejection of a promise that it returns. */
  run(name: string, hook: () => unknown): void {
    this.tell(name, call, hook);
  }

  /** Runs `hook` with a value, as `run` does: a call from a hot path needs no closure for it. */
  tell<V>(name: string, hook: (value: V) => unknown, value: V): void {
    try {
      const result = hook(value);
      // Not `instanceof Promise`: async functions return the engine's own promises, even where the
      // global `Promise` was replaced.
      if (isThenable(result)) void this.#settled(name, result);
    } catch (error) {
      this.warn(name, error);
    }
  }

  /**
   * Returns the answer of `hook`; `undefined` if it throws. A promise is an error: nobody waits for the answer.
   */
  ask<T>(name: string, hook: () => T): T | undefined {
    try {
      const answer = hook();
      if (!isThenable(answer)) return answer;
      ignoreRejection(answer);
      throw new TypeError(`${name} returned a promise, and its answer is needed at once`);
    } catch (error) {
      this.warn(name, error);
      return undefined;
    }
  }

  async #settled(name: string, result: PromiseLike<unknown>): Promise<void> {
    try {
      await result;
    } catch (error) {
      this.warn(name, error);
    }
  }

  /** Makes the first error of that name a process warning. Used where the application has given no hook for errors. */
  warn(name: string, cause: unknown): void {
    if (this.#warned.has(name) || this.#warned.size >= WARNED_MAX) return;
    this.#warned.add(name);
    // Warnings get into logs: the text of the application's error may hold a secret.
    const warning = new Error(
      `${name} failed; process.on('warning') gets the error as its cause. Further errors of this hook are not reported`,
      { cause },
    );
    emitWarning(
      Object.assign(warning, { name: 'PortcullisWarning', code: 'PORTCULLIS_HOOK_ERROR' }),
    );
  }
}

/**
 * Emits an error as a process warning. The host throws for an `Error` of another realm, such as that of a test file of
 * Jest: the warning then gets the prototype of the host's `Error`.
 */
function emitWarning(warning: Error): void {
  try {
    process.emitWarning(warning);
  } catch (refusal) {
    const chain: unknown[] = [];
    for (let at: unknown = refusal; at !== null; at = Object.getPrototypeOf(at)) chain.push(at);
    // The prototype of the host's `Error` comes last but one, before that of all objects.
    const own = chain.at(-2) as object;
    process.emitWarning(Object.setPrototypeOf(warning, own) as Error);
  }
}

const call = (hook: () => unknown): unknown => hook();

/**
 * Handles the rejection of a promise that nobody awaits: unhandled, it would end the process. Ignores any other value.
 * @internal
 */
export function ignoreRejection(answer: unknown): void {
  ignoreFailure(() => answer);
}

/**
 * Runs a step whose failure tells nothing new, now or as the rejection of a promise. A socket that cannot be closed, for
 * one, is gone already.
 * @internal
 */
export function ignoreFailure(step: () => unknown): void {
  try {
    const result = step();
    if (isThenable(result)) void Promise.resolve(result).catch(() => undefined);
  } catch {
    // A value whose `then` cannot be read ends here, too.
  }
}

/**
 * Whether `await` would wait for a value: it has a method `then`. Throws where `then` cannot be read, as `await` rejects.
 * @internal
 */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === 'object' || typeof value === 'function') &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}
