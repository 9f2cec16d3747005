/** A hook is the user's code in the middle of ours, and often a client's to trigger: it must not end the server. */

/** Runs hooks; the first error of each is emitted as a process warning, with the error as its `cause`. @internal */
export class Hooks {
  readonly #warned = new Set<string>();

  run(name: string, hook: () => unknown): void {
    try {
      const result = hook();
      // Not `instanceof Promise`: whoever replaces the global one still gets the engine's own from async functions.
      if (isThenable(result)) void this.#settled(name, result);
    } catch (error) {
      this.#warn(name, error);
    }
  }

  async #settled(name: string, result: PromiseLike<unknown>): Promise<void> {
    try {
      await result;
    } catch (error) {
      this.#warn(name, error);
    }
  }

  #warn(name: string, cause: unknown): void {
    if (this.#warned.has(name)) return;
    this.#warned.add(name);
    // The error's own text may hold what is not for logs.
    const warning = new Error(
      `${name} failed; process.on('warning') gets the error as its cause. Further ones of this hook are not reported`,
      { cause },
    );
    process.emitWarning(
      Object.assign(warning, { name: 'PortcullisWarning', code: 'PORTCULLIS_HOOK_ERROR' }),
    );
  }
}

/** What resolves like a promise. @internal */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    (typeof value === 'object' || typeof value === 'function') &&
    value !== null &&
    typeof (value as { then?: unknown }).then === 'function'
  );
}
