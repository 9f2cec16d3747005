/** What JavaScriptCore, Bun's engine, says of itself; by `require`, since no module that awaits can be loaded by `require`. */
import { createRequire } from 'node:module';

interface Jsc {
  /** Runs the promise jobs that wait. */
  drainMicrotasks(): void;
  heapSize(): number;
}

/** `undefined` on other engines. @internal */
export const jsc: Jsc | undefined =
  'bun' in process.versions ? (createRequire(import.meta.url)('bun:jsc') as Jsc) : undefined;
