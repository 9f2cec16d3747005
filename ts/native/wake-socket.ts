/**
 * The event loop's end of a socket that a native thread writes a byte into. Reading the byte proves
 * that the loop turns.
 */
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { lazily } from '../base/builtin.js';

const net = lazily(() => process.getBuiltinModule('node:net'));

interface BunSocket {
  ref(): void;
  unref(): void;
  end(): void;
}
interface BunConnect {
  connect(options: {
    fd: number;
    socket: Record<'data' | 'open' | 'error' | 'close', (...args: unknown[]) => void>;
  }): Promise<BunSocket>;
}

/** The loop's end of a wake socket. @internal */
export interface WakeSocket {
  /** Makes the socket keep the process alive, or no longer. */
  hold(isHeld: boolean): void;
  close(): void;
}

const NONE: WakeSocket = { hold: () => undefined, close: () => undefined };

/**
 * Calls `wake` for each chunk that arrives. The socket does not keep the process alive, unless it is
 * held.
 * @param descriptor file descriptor, owned by this function from now on; negative for none
 * @internal
 */
export function readWakeSocket(descriptor: number, wake: () => void): WakeSocket {
  if (descriptor < 0) return NONE;
  const bun = (globalThis as unknown as { Bun?: BunConnect }).Bun;
  try {
    return bun === undefined ? listenOnNode(descriptor, wake) : listenOnBun(bun, descriptor, wake);
  } catch {
    // The runtime refuses the descriptor. The watcher then gets no answers, and reports so.
    closeSync(descriptor);
    return NONE;
  }
}

function listenOnNode(descriptor: number, wake: () => void): WakeSocket {
  const onread = {
    // One buffer for all reads: without `onread`, Node allocates 64 kB for every byte.
    buffer: Buffer.alloc(64),
    callback: () => {
      wake();
      return true;
    },
  };
  const socket = new (net().Socket)({
    fd: descriptor,
    readable: true,
    writable: false,
    onread,
  } as ConstructorParameters<typeof Socket>[0]);
  socket.on('error', () => socket.destroy());
  socket.unref();
  return {
    hold: (isHeld) => void (isHeld ? socket.ref() : socket.unref()),
    close: () => void socket.destroy(),
  };
}

function listenOnBun(bun: BunConnect, descriptor: number, wake: () => void): WakeSocket {
  const ignore = (): void => undefined;
  let isClosed = false;
  let isHeld = false;
  let socket: BunSocket | undefined;
  const opened = (given: BunSocket): void => {
    socket = given;
    if (!isHeld) given.unref();
    if (isClosed) given.end();
  };
  bun
    .connect({
      fd: descriptor,
      socket: { data: wake, open: ignore, error: ignore, close: ignore },
    })
    .then(opened, ignore);
  return {
    hold(hold) {
      isHeld = hold;
      if (hold) socket?.ref();
      else socket?.unref();
    },
    close() {
      isClosed = true;
      socket?.end();
    },
  };
}
