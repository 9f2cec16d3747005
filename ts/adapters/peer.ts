/** The address of a socket's peer, as a guard takes it. */
import type { IncomingMessage } from 'node:http';
import { UNIX_PEER } from '../guard/client-address.js';

/** Bun's server, as far as it names the peers of its requests. @internal */
export interface PeerSource {
  readonly url?: URL;
  requestIP(request: Request): { readonly address: string } | null;
}

/**
 * Returns the address of a request's peer on Bun: `'unix'` behind a Unix socket, `''` if the client
 * has gone.
 * @internal
 */
export function bunPeer(server: PeerSource, request: Request): string {
  const address = server.requestIP(request)?.address;
  if (address !== undefined) return address;
  return server.url?.protocol === 'unix:' ? UNIX_PEER : '';
}

/** A socket with the server that accepted it, which Node and Bun both store there. */
interface AcceptedSocket {
  readonly server?: { address?(): unknown };
}

/**
 * Returns the address of a request's peer on Node: `'unix'` behind a Unix socket, `''` if the client
 * has gone. Only the server tells the two apart, since `remoteAddress` is `undefined` in both cases:
 * the address of a server on a Unix socket is its path.
 * @internal
 */
export function nodePeer({ socket }: IncomingMessage): string {
  const { remoteAddress } = socket;
  if (remoteAddress !== undefined) return remoteAddress;
  const { server } = socket as AcceptedSocket;
  return typeof server?.address?.() === 'string' ? UNIX_PEER : '';
}
