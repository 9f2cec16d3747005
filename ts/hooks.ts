/** A hook is the user's code in the middle of ours, and often a client's to trigger: it must not end the server. */

/** Runs hooks; the first error of each is emitted as a process warning, with the error as its `cause`. @internal */
export class Hooks {
  readonly #warned = new Set<string>();

  run(name: string, hook: () => unknown): void {
    try {
      const result = hook();
      if (result instanceof Promise) result.catch((error: unknown) => this.#warn(name, error));
    } catch (error) {
      this.#warn(name, error);
    }
  }

  #warn(name: string, cause: unknown): void {
    if (this.#warned.has(name)) return;
    this.#warned.add(name);
    // The error's own text may hold what is not for logs.
    const warning = new Error(`${name} failed; process.on('warning') gets the error as its cause. Further ones of this hook are not reported`, { cause });
    process.emitWarning(Object.assign(warning, { name: 'PortcullisWarning', code: 'PORTCULLIS_HOOK_ERROR' }));
  }
}
