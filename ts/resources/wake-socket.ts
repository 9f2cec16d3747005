/** The loop's end of the socket that the watcher writes into: read, so that the loop shows that it turns. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';

interface BunSocket {
  unref(): void;
  end(): void;
}
interface BunConnect {
  connect(options: {
    fd: number;
    socket: Record<'data' | 'open' | 'error' | 'close', (...args: unknown[]) => void>;
  }): Promise<BunSocket>;
}

/**
 * Calls `wake` for what comes, without holding the process.
 * @param descriptor is this function's from here on; negative for none
 * @returns a function that closes the socket
 * @internal
 */
export function readWakeSocket(descriptor: number, wake: () => void): () => void {
  if (descriptor < 0) return () => undefined;
  const bun = (globalThis as unknown as { Bun?: BunConnect }).Bun;
  try {
    return bun === undefined ? listenOnNode(descriptor, wake) : listenOnBun(bun, descriptor, wake);
  } catch {
    // A runtime that does not take the descriptor: the watcher has no answer then, and says so.
    closeSync(descriptor);
    return () => undefined;
  }
}

function listenOnNode(descriptor: number, wake: () => void): () => void {
  const onread = {
    // One buffer for good: else 64 kB are allocated for every byte.
    buffer: Buffer.alloc(64),
    callback: () => {
      wake();
      return true;
    },
  };
  const socket = new Socket({
    fd: descriptor,
    readable: true,
    writable: false,
    onread,
  } as ConstructorParameters<typeof Socket>[0]);
  socket.on('error', () => socket.destroy());
  socket.unref();
  return () => void socket.destroy();
}

function listenOnBun(bun: BunConnect, descriptor: number, wake: () => void): () => void {
  const nothing = (): void => undefined;
  let isClosed = false;
  let socket: BunSocket | undefined;
  const opened = (given: BunSocket): void => {
    socket = given;
    given.unref();
    if (isClosed) given.end();
  };
  bun
    .connect({
      fd: descriptor,
      socket: { data: wake, open: nothing, error: nothing, close: nothing },
    })
    .then(opened, nothing);
  return () => {
    isClosed = true;
    socket?.end();
  };
}
