/**
 * Memory that the core keeps. It is a `SharedArrayBuffer` and no `ArrayBuffer`: neither
 * `structuredClone`, `postMessage` nor `transfer` can detach it, so the core's address stays valid
 * whatever other code does with the array. The core refuses any other memory.
 */

interface TypedArrayConstructor<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: SharedArrayBuffer, byteOffset: number, length: number): A;
}

/** Allocates a typed array that the core can keep. @internal */
export function sharedArray<A>(type: TypedArrayConstructor<A>, length: number): A {
  // The core copies whole words of 8 bytes.
  const bytes = Math.ceil((length * type.BYTES_PER_ELEMENT) / 8) * 8;
  return new type(new SharedArrayBuffer(bytes), 0, length);
}
