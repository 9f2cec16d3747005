/**
 * Memory that the core keeps. It is a `SharedArrayBuffer` and no `ArrayBuffer`: neither
 * `structuredClone`, `postMessage` nor `transfer` can detach it, so the core's address stays valid
 * whatever other code does with the array. The core refuses any other memory.
 */

import { lazily } from '../base/builtin.js';
import { createJsonScanner } from './addon.js';

interface TypedArrayConstructor<A> {
  readonly BYTES_PER_ELEMENT: number;
  new (buffer: SharedArrayBuffer, byteOffset: number, length: number): A;
}

/**
 * Whether the core belongs to another realm than this module. Each test file of Jest has a realm of its own, and all of
 * them share the core of the process. If the core kept an array of a realm, it would keep the whole realm.
 */
const isCoreOfOtherRealm = !(createJsonScanner instanceof Function);

const workers = lazily(() => process.getBuiltinModule('node:worker_threads'));

/** Returns an array of the core's realm over the same memory: a message port creates received arrays in that realm. */
function inCoreRealm<A>(array: A): A {
  const { MessageChannel, receiveMessageOnPort } = workers();
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(array);
  const { message } = receiveMessageOnPort(port2) as { message: A };
  port1.close();
  return message;
}

/** Allocates a typed array that the core can keep. @internal */
export function sharedArray<A>(type: TypedArrayConstructor<A>, length: number): A {
  // The core copies whole words of 8 bytes.
  const bytes = Math.ceil((length * type.BYTES_PER_ELEMENT) / 8) * 8;
  const array = new type(new SharedArrayBuffer(bytes), 0, length);
  return isCoreOfOtherRealm ? inCoreRealm(array) : array;
}
