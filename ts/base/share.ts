/**
 * One copy of each module in a thread. A process can load the package more than once: as ECMAScript
 * modules and as CommonJS, in a bundle and beside it, or again after a test runner has reset its
 * modules. Two copies would have two classes of one name, so `instanceof` would fail, and two states.
 *
 * `scripts/share.mjs` ends every compiled module with a call of `share`: the copy that is evaluated
 * first registers its exports, and later copies export those in the place of their own. The registry
 * stands on `globalThis`, which each worker thread and each realm has for itself, and its key holds
 * the version, so that two versions stay apart.
 */

type Registry = Map<string, object>;

/**
 * Returns the exports of the copy of a module that was evaluated first in this thread.
 *
 * @param key Name and version of the package.
 * @param path Path of the module within the package.
 * @param own Exports of the copy that asks; registered if it is the first.
 * @internal
 */
export function share<T extends object>(key: string, path: string, own: T): T {
  const symbol = Symbol.for(key);
  const holder = globalThis as unknown as Record<symbol, Registry | undefined>;
  let registry = holder[symbol];
  if (registry === undefined) {
    registry = new Map();
    // Not `Object.defineProperty`, which throws if `globalThis` is frozen: each copy then stands alone.
    Reflect.defineProperty(globalThis, symbol, { value: registry });
  }
  const first = registry.get(path);
  if (first !== undefined) return first as T;
  registry.set(path, own);
  return own;
}
