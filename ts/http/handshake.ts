/** The one judgement of a request: can the host turn it into a WebSocket, and how long is its body? */

/**
 * True for a request that a host can upgrade to a WebSocket: a GET whose `Upgrade` names `websocket`.
 * `Upgrade` is a list (RFC 9110, section 7.8), and Bun upgrades a list too; a proxy that joins
 * repeated lines makes one.
 * @param upgrade the header `Upgrade`, if there is one
 * @internal
 */
export function isHandshake(
  method: string | undefined,
  upgrade: string | null | undefined,
): boolean {
  if (upgrade === null || upgrade === undefined || method !== 'GET') return false;
  const protocols = upgrade.toLowerCase();
  return (
    protocols === 'websocket' ||
    (protocols.includes('websocket') &&
      protocols.split(',').some((protocol) => protocol.trim() === 'websocket'))
  );
}

/** Sixteen bytes in base64 (RFC 6455, section 4.1). */
const KEY = /^[+/0-9A-Za-z]{22}==$/;

/**
 * True for a handshake whose key or version no host can complete (RFC 6455, section 4.2.1). 8 is the version of an
 * earlier draft, which `ws` serves, too.
 * @param header returns a header of a request whose `Upgrade` names `websocket`
 * @internal
 */
export function isMalformed(header: (name: string) => string): boolean {
  const version = header('sec-websocket-version');
  return (version !== '13' && version !== '8') || !KEY.test(header('sec-websocket-key'));
}

/**
 * Returns the bytes of a body by its `Content-Length`, or `undefined` if the header is absent or no
 * plain number, such as `5, 5` of two joined lines: such a body has to be counted as it arrives.
 * @internal
 */
export function lengthOf(contentLength: string | null | undefined): number | undefined {
  return typeof contentLength === 'string' && /^\d+$/.test(contentLength)
    ? Number(contentLength)
    : undefined;
}

/** A client that waits while its handshake is judged, as its host knows it. @internal */
export interface WaitingClient {
  /** Calls `listener` once the client has left; returns a function that ends that. */
  onGone(listener: () => void): () => void;
}
