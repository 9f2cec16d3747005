// Connections that come and go in every way.
import { flat } from '../flat.mjs';
import { Peer, frame, handshakeText } from '../peers.mjs';
import { Server } from '../process.mjs';

const ways = {
  async clean(peer) {
    if (!(await peer.opens())) throw new Error(`a client was not let in: ${peer.seen}`);
    peer.write(Buffer.concat([frame(1, Buffer.from('hello')), frame(8, Buffer.of(3, 232))]));
    await peer.closed;
    if (!peer.seen.includes('hello')) throw new Error('a message was not answered');
  },
  async fin(peer) {
    if (!(await peer.opens())) throw new Error(`a client was not let in: ${peer.seen}`);
    peer.socket.end();
    await peer.closed;
  },
  async reset(peer) {
    if (!(await peer.opens())) throw new Error(`a client was not let in: ${peer.seen}`);
    await peer.reset();
  },
  /** Gone before the answer. */
  async early(peer) {
    await new Promise((resolve) => void peer.socket.write(handshakeText(), resolve));
    await peer.reset();
  },
  async half(peer, dice) {
    const text = handshakeText();
    await new Promise(
      (resolve) => void peer.socket.write(text.slice(0, 1 + dice.below(text.length - 2)), resolve),
    );
    await peer.reset();
  },
};

/** @param {import('../plan.mjs').Context} context */
export async function connects({ host, dice, counts, tell }) {
  const server = await Server.start(host, {
    limits: { maxConnectionsPerIp: 1000, maxTotalConnections: 10_000, connectionTimeoutMs: 60_000 },
  });
  const memory = await flat(server, counts.cycles, tell, async () => {
    const peer = new Peer(server.port, dice.below(200));
    await ways[dice.pick(['clean', 'clean', 'fin', 'reset', 'early', 'half'])](peer, dice);
  });
  const { admitted } = await server.settle();
  return `${counts.cycles} cycles, ${admitted} let in; ${memory}`;
}
