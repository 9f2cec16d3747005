/** Batches of tokens on the thread pool of the host. */
import os from 'node:os';
import type { TokenCore } from '../native/addon.js';

/** The most tokens of one batch. @internal */
export const BATCH_MAX = 16_384;
/** The fewest tokens of one task: starting a task costs the event loop some microseconds. */
const TASK_MIN = 64;
/** The pool has four threads; one core belongs to the event loop. */
const TASKS_MAX = Math.min(4, Math.max(1, os.availableParallelism() - 1));

/** Results of some tokens. @internal */
export interface BatchResults {
  /** For each token 0, or the core's number of its refusal. Void for input of another type. */
  readonly numbers: readonly number[];
  /** The claims of the good tokens, in their order. */
  readonly claims: readonly unknown[];
}

/** Divides a batch among the threads of the pool. @internal */
export function tasksOf(tokens: readonly unknown[]): unknown[][] {
  const size = Math.max(TASK_MIN, Math.ceil(tokens.length / TASKS_MAX));
  const tasks: unknown[][] = [];
  for (let at = 0; at < tokens.length; at += size) tasks.push(tokens.slice(at, at + size));
  return tasks;
}

/** Verifies tokens on another thread. They cross as one text, with the length of each. @internal */
export async function verifyOnPool(
  core: TokenCore,
  tokens: readonly unknown[],
  maxTokenBytes: number,
  nowSeconds: number,
): Promise<BatchResults> {
  const lengths = new Uint32Array(tokens.length);
  let text = '';
  for (let at = 0; at < tokens.length; at++) {
    const token = tokens[at];
    if (typeof token !== 'string') continue;
    // One character beyond the limit is enough for a refusal.
    const part = token.length > maxTokenBytes ? token.slice(0, maxTokenBytes + 1) : token;
    lengths[at] = part.length;
    text += part;
  }
  // The claims of the good tokens, then the array of numbers.
  const answer = JSON.parse(await core.batch(text, lengths, nowSeconds)) as unknown[];
  const numbers = answer.pop() as number[];
  return { numbers, claims: answer };
}
