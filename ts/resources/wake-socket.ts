/**
 * The event loop's end of the socket that the watcher writes a byte into. Reading the byte proves
 * that the loop turns.
 */
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
 * Calls `wake` for each chunk that arrives. The socket does not keep the process alive.
 * @param descriptor file descriptor, owned by this function from now on; negative for none
 * @returns a function that closes the socket
 * @internal
 */
export function readWakeSocket(descriptor: number, wake: () => void): () => void {
  if (descriptor < 0) return () => undefined;
  const bun = (globalThis as unknown as { Bun?: BunConnect }).Bun;
  try {
    return bun === undefined ? listenOnNode(descriptor, wake) : listenOnBun(bun, descriptor, wake);
  } catch {
    // The runtime refuses the descriptor. The watcher then gets no answers, and reports so.
    closeSync(descriptor);
    return () => undefined;
  }
}

function listenOnNode(descriptor: number, wake: () => void): () => void {
  const onread = {
    // One buffer for all reads: without `onread`, Node allocates 64 kB for every byte.
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
  const ignore = (): void => undefined;
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
      socket: { data: wake, open: ignore, error: ignore, close: ignore },
    })
    .then(opened, ignore);
  return () => {
    isClosed = true;
    socket?.end();
  };
}
