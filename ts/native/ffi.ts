/**
 * The core's hot calls by `bun:ffi`: a call of Node-API costs 80 ns on Bun, such a call 2. Opt-in, by
 * PORTCULLIS_FFI=1 in the environment of the process, which is read once: `bun:ffi` is experimental.
 *
 * The addon tells the addresses of the functions, so there is no symbol to find and no path of a file. The functions
 * name a table by two numbers, which the core checks: no argument leads to memory that is no table
 * (`src/binding/ffi.rs`).
 */
import { PortcullisError } from '../base/errors.js';
import { type createConnections, hotCalls } from './addon.js';

/** Answers of every function that are no result; any other negative one is a bug that was contained. */
const GONE = -1;
const INVALID = -2;
/** The number of a table has two parts: `serial * PLACES + place`. */
const PLACES = 65_536;

type NativeTable = ReturnType<typeof createConnections>;
/** The calls of a table that connects, disconnects and messages make. @internal */
export type HotCalls = Pick<NativeTable, 'take' | 'settle' | 'release' | 'message'>;

/** The C functions, in the order of their addresses. */
const SIGNATURES = {
  take: ['u32', 'u32'],
  settle: ['u32', 'u32'],
  release: ['u32', 'u32', 'u32'],
  message: ['u32', 'u32', 'u32', 'f64'],
} as const;
type Functions = Record<
  keyof typeof SIGNATURES,
  (place: number, serial: number, ...rest: number[]) => number
>;

/** `bun:ffi`, as far as it is used here. */
interface BunFfi {
  CFunction(options: {
    readonly ptr: number;
    readonly args: readonly string[];
    readonly returns: 'i32';
  }): (...args: number[]) => number;
}

/** @throws if there is no `bun:ffi`, or if it refuses an address */
function functionsAt(addresses: readonly number[]): Functions {
  const ffi =
    'bun' in process.versions
      ? (process.getBuiltinModule('bun:ffi') as BunFfi | undefined)
      : undefined;
  if (ffi === undefined) throw new Error('this runtime has no bun:ffi');
  const made = Object.entries(SIGNATURES).map(([name, args], at) => {
    const ptr = addresses[at] ?? 0;
    if (ptr === 0) throw new Error(`the addon has no function '${name}'`);
    return [name, ffi.CFunction({ ptr, args, returns: 'i32' })];
  });
  return Object.fromEntries(made) as Functions;
}

/**
 * Returns the C functions if `setting` asks for them; `undefined`, with a process warning that says why, if they
 * cannot be used.
 * @param addresses returns their addresses
 * @internal
 */
export function ffiFunctions(
  setting: string | undefined,
  addresses: () => readonly number[],
): Functions | undefined {
  if (setting === undefined || setting === '' || setting === '0') return undefined;
  try {
    if (setting !== '1') throw new Error('its value is neither 0 nor 1');
    return functionsAt(addresses());
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    process.emitWarning(`PORTCULLIS_FFI has no effect, Node-API is used: ${reason}`, {
      type: 'PortcullisWarning',
      code: 'PORTCULLIS_FFI_UNAVAILABLE',
    });
    return undefined;
  }
}

const functions = ffiFunctions(process.env['PORTCULLIS_FFI'], hotCalls);

/** True if the hot calls are made by `bun:ffi`. @internal */
export const usesFfi = functions !== undefined;

/** The hot calls of one table by C functions; by Node-API where those give no result, for the error. */
class FfiCalls implements HotCalls {
  readonly #functions: Functions;
  readonly #table: NativeTable;
  readonly #place: number;
  readonly #serial: number;

  constructor(functions: Functions, table: NativeTable, number: number) {
    this.#functions = functions;
    this.#table = table;
    this.#place = number % PLACES;
    this.#serial = Math.floor(number / PLACES);
  }

  take(user?: string, ip?: string): void {
    // Strings cross by Node-API only.
    if (user !== undefined || ip !== undefined) return this.#table.take(user, ip);
    if (isFailure(this.#functions.take(this.#place, this.#serial))) this.#table.take();
  }

  settle(): number {
    const answer = this.#functions.settle(this.#place, this.#serial);
    return isFailure(answer) ? this.#table.settle() : answer;
  }

  release(slot: number): number {
    const answer = this.#functions.release(this.#place, this.#serial, slot);
    return isFailure(answer) ? this.#table.release(slot) : answer;
  }

  message(slot: number, nowMs: number): number {
    const answer = this.#functions.message(this.#place, this.#serial, slot, nowMs);
    return isFailure(answer) ? this.#table.message(slot, nowMs) : answer;
  }
}

/** @throws ERR_INTERNAL for a bug that was contained: the call may have been made in part, so it is not repeated */
function isFailure(answer: number): boolean {
  if (answer >= 0) return false;
  if (answer === GONE || answer === INVALID) return true;
  throw new PortcullisError('ERR_INTERNAL', 'a bug in the native core was contained');
}

/** Returns the hot calls of a table. @internal */
export function hotCallsOf(table: NativeTable): HotCalls {
  if (functions === undefined) return table;
  const number = table.openFfi();
  return number < 0 ? table : new FfiCalls(functions, table, number);
}
