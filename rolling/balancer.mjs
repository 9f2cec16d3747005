// A balancer of connections, as kube-proxy is one: each new connection goes to one of the ready backends, and
// stays there until an end closes it.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Balancer {
  #ports = [];
  #next = 0;
  #sockets = new Set();
  #server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => this.#join(client));

  /** Listens on a free port of this machine and returns the port. */
  async listen() {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this.#server.address().port;
  }

  /** Sends new connections to the backend at `port`, too. */
  add(port) {
    this.#ports.push(port);
  }

  /** Sends no new connection to the backend at `port` any more. */
  remove(port) {
    this.#ports = this.#ports.filter((one) => one !== port);
  }

  #join(client) {
    const port = this.#ports[this.#next++ % this.#ports.length];
    const backend = connect({ port, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    for (const [from, to] of [
      [client, backend],
      [backend, client],
    ]) {
      this.#sockets.add(from);
      from.pipe(to);
      // A reset of one end is a reset of the other.
      from.on('error', () => to.resetAndDestroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroySoon();
      });
    }
  }

  close() {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
