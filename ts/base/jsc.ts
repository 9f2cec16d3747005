/**
 * `bun:jsc`, the module of JavaScriptCore, Bun's engine. It is loaded by `require`: a static import
 * fails on Node, and a dynamic one needs a top-level `await`, with which a module cannot be loaded
 * by `require` itself.
 */
import { createRequire } from 'node:module';

interface Jsc {
  /** Runs pending microtasks. */
  drainMicrotasks(): void;
  /** Returns the size of the heap, bytes. */
  heapSize(): number;
}

/** The module, or `undefined` on other engines. @internal */
export const jsc: Jsc | undefined =
  'bun' in process.versions ? (createRequire(import.meta.url)('bun:jsc') as Jsc) : undefined;
