/** Random values, from one source for every host. */
import { lazily } from './builtin.js';
import { jsc } from './jsc.js';

interface Source {
  randomUUID(): string;
  getRandomValues(numbers: Int32Array): Int32Array;
}

/**
 * The Web Crypto API. On Node from its module: contexts of `node:vm` have no global `crypto`, and
 * neither has a process with `--no-experimental-global-webcrypto`. Bun always has the global, and
 * takes 5 ms to load the module.
 */
const source = lazily((): Source =>
  jsc === undefined ? process.getBuiltinModule('node:crypto').webcrypto : globalThis.crypto,
);

/** Returns a random UUID. @internal */
export const randomUUID = (): string => source().randomUUID();

/** Returns random numbers of 32 bits, at most 16,384. @internal */
export const randomNumbers = (length: number): Int32Array =>
  source().getRandomValues(new Int32Array(length));
