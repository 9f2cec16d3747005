/** The close of a socket, for the requests on it. */

const ENDS = Symbol('portcullis.ends');

interface ClosableSocket {
  once(event: 'close', listener: () => void): unknown;
  [ENDS]?: Set<() => void>;
}

/**
 * Calls `end` when a socket closes. Node closes the response that it is sending, but none of the
 * pipelined ones behind it: their requests would never end. One listener of the socket serves all of
 * its requests, of which a client may pipeline any number.
 * @returns a function that forgets `end`
 * @internal
 */
export function onSocketClose(socket: ClosableSocket, end: () => void): () => void {
  let ends = socket[ENDS];
  if (ends === undefined) {
    const all = new Set<() => void>();
    socket[ENDS] = ends = all;
    socket.once('close', () => {
      for (const one of all) one();
      all.clear();
    });
  }
  const known = ends.add(end);
  return () => void known.delete(end);
}
