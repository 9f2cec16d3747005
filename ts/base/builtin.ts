/**
 * Modules of the host that are loaded when they are first used. On Bun, `node:crypto`, `node:net` and
 * `node:worker_threads` alone took a third of the time of an import of the package.
 */

/**
 * Returns a function that loads a module of the host at its first call.
 * @param load calls `process.getBuiltinModule`
 * @example
 * const net = lazily(() => process.getBuiltinModule('node:net'));
 * net().isIPv6(text);
 * @internal
 */
export function lazily<M extends object>(load: () => M): () => M {
  let loaded: M | undefined;
  return () => (loaded ??= load());
}
