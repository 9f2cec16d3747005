/**
 * `bun:jsc`, the module of JavaScriptCore, Bun's engine. `process.getBuiltinModule` returns it: a
 * static import fails on Node, a dynamic one needs a top-level `await`, with which a module cannot
 * be loaded by `require`, and webpack refuses to build a `require` of a scheme that it does not know.
 */

interface Jsc {
  /** Runs pending microtasks. */
  drainMicrotasks(): void;
  /** Returns the size of the heap, bytes. */
  heapSize(): number;
}

/** The module, or `undefined` on other engines. @internal */
export const jsc: Jsc | undefined =
  'bun' in process.versions ? (process.getBuiltinModule('bun:jsc') as Jsc | undefined) : undefined;
