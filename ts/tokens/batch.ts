/** Batches of tokens on the thread pool of the host. */
import os from 'node:os';
import type { TokenCore } from '../native/addon.js';

/** The most tokens of one batch. @internal */
export const BATCH_MAX = 16_384;
/** The fewest tokens of one task: starting a task costs the event loop some microseconds. */
const TASK_MIN = 64;
/** Most characters of one task. Node cannot create a string of 2^29 characters, and a batch may have twice as many. */
const TEXT_MAX = 2 ** 24;
/** The pool has four threads; one core belongs to the event loop. */
const TASKS_MAX = Math.min(4, Math.max(1, os.availableParallelism() - 1));

/** Results of some tokens. @internal */
export interface BatchResults {
  /** For each token 0, or the core's number of its refusal. Void for input of another type. */
  readonly numbers: readonly number[];
  /** The claims of the good tokens, in their order. */
  readonly claims: readonly unknown[];
}

/** Returns how many characters of a token the core gets. One character beyond the limit is enough for a refusal. */
const lengthOf = (token: unknown, maxTokenBytes: number): number =>
  typeof token === 'string' ? Math.min(token.length, maxTokenBytes + 1) : 0;

/** Divides a batch among the threads of the pool. @internal */
export function tasksOf(tokens: readonly unknown[], maxTokenBytes: number): unknown[][] {
  const size = Math.max(TASK_MIN, Math.ceil(tokens.length / TASKS_MAX));
  const tasks: unknown[][] = [];
  let task: unknown[] = [];
  let characters = 0;
  for (const token of tokens) {
    const length = lengthOf(token, maxTokenBytes);
    if (task.length === size || characters + length > TEXT_MAX) {
      tasks.push(task);
      task = [];
      characters = 0;
    }
    task.push(token);
    characters += length;
  }
  if (task.length > 0) tasks.push(task);
  return tasks;
}

/**
 * Runs at most `TASKS_MAX` tasks at a time. The texts of all tasks together would double the memory of the batch.
 * @returns their results, in the order of the tasks
 * @internal
 */
export async function inTurns<T, R>(
  tasks: readonly T[],
  run: (task: T) => Promise<R>,
): Promise<R[]> {
  const results: R[] = [];
  const rest = tasks.entries();
  const work = async (): Promise<void> => {
    for (const [at, task] of rest) results[at] = await run(task);
  };
  await Promise.all(Array.from({ length: Math.min(TASKS_MAX, tasks.length) }, work));
  return results;
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
    const length = lengthOf(token, maxTokenBytes);
    lengths[at] = length;
    text += length < token.length ? token.slice(0, length) : token;
  }
  // The claims of the good tokens, then the array of numbers.
  const answer = JSON.parse(await core.batch(text, lengths, nowSeconds)) as unknown[];
  const numbers = answer.pop() as number[];
  return { numbers, claims: answer };
}
