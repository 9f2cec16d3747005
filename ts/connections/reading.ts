/**
 * Tells silent clients from those whose data the server does not read, or reads already: a paused socket,
 * and a message that is still arriving.
 */
import type { ManagedConnection } from './connection.js';
import type { SocketHost } from './open-socket.js';

/** Compares what has arrived since the last look. @internal */
export class Reading {
  readonly #hosts = new Set<SocketHost>();
  /** Bytes of a message under way, at the last look. */
  readonly #arrived = new WeakMap<object, number>();

  add(host: SocketHost): void {
    this.#hosts.add(host);
  }

  /** True if the server has paused the socket, or if more of one message has arrived since the last look. */
  isBusy({ socket }: Pick<ManagedConnection, 'socket'>): boolean {
    for (const host of this.#hosts) {
      if (host.isPaused(socket)) return true;
      const arrived = host.arrived(socket);
      if (arrived === undefined || arrived === this.#arrived.get(socket)) continue;
      this.#arrived.set(socket, arrived);
      return true;
    }
    return false;
  }
}
