/**
 * Cells that JavaScript shares with the native watcher (`src/sampler/cell.rs`), and behind them those
 * of its figures (`src/binding/resources/figures.rs`).
 */
import { PortcullisError } from '../base/errors.js';
import { figurePlaces, resourceCells } from '../native/addon.js';
import { sharedArray } from '../native/shared-memory.js';

// The core lists the names in their order, so that offsets are declared once, in Rust.
const NAMES = resourceCells();
/** Places of the figures. @internal */
export const AT: Readonly<ReturnType<typeof figurePlaces>> = figurePlaces();

/** Returns the offset of a cell. @throws ERR_INTERNAL for an unknown name @internal */
export function cellOf(name: string): number {
  const offset = NAMES.indexOf(name);
  if (offset < 0) throw new PortcullisError('ERR_INTERNAL', `the native core has no cell ${name}`);
  return offset;
}

/**
 * Allocates the cells of one monitor. Counters start at 0; NaN in the others means "no value yet".
 * @internal
 */
export function createCells(): Float64Array {
  const cells = sharedArray(Float64Array, AT.length);
  return cells.fill(Number.NaN, cellOf('HEAP_USED'));
}
