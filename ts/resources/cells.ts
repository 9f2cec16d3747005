/** Offsets of the cells that JavaScript shares with the native watcher (`src/sampler/cell.rs`). */
import { PortcullisError } from '../base/errors.js';
import { resourceCells } from '../native/addon.js';

// The core lists the names in their order, so that offsets are declared once, in Rust.
const NAMES = resourceCells();

function offsetOf(name: string): number {
  const offset = NAMES.indexOf(name);
  if (offset < 0) throw new PortcullisError('ERR_INTERNAL', `the native core has no cell ${name}`);
  return offset;
}

// Written by JavaScript.
export const IN_FLIGHT = offsetOf('IN_FLIGHT');
export const REQUESTS = offsetOf('REQUESTS');
export const BEGUN = offsetOf('BEGUN');
export const LABEL = offsetOf('LABEL');
export const HEAP_USED = offsetOf('HEAP_USED');
export const HEAP_LIMIT = offsetOf('HEAP_LIMIT');

// Written by the watcher.
export const LEVEL = offsetOf('LEVEL');
export const PERCENT = offsetOf('PERCENT');
export const RSS = offsetOf('RSS');
export const CPU_PERCENT = offsetOf('CPU_PERCENT');
export const OTHERS_IN_FLIGHT = offsetOf('OTHERS_IN_FLIGHT');

/** Allocates the cells of one monitor. NaN means "no value yet"; counters start at 0. */
export function createCells(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(NAMES.length * 8)).fill(Number.NaN, HEAP_USED);
}
