// Connections that come and go in every way, and what the server's memory does meanwhile.
import { Peer, frame, handshakeText, many } from '../peers.mjs';
import { Server } from '../process.mjs';

const WIDTH = 64;
const MIB = 2 ** 20;
/** What allocators keep, and engines compile late; a leak of a few hundred bytes a connection is far beyond it. */
const RSS_SLACK_MIB = 24;
/** A connection object alone is larger. */
const HEAP_BYTES_EACH = 24;

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
    await new Promise((resolve) => void peer.socket.write(text.slice(0, 1 + dice.below(text.length - 2)), resolve));
    await peer.reset();
  },
};

/** @param {import('../plan.mjs').Context} context */
export async function connects({ host, dice, counts, tell }) {
  const server = await Server.start(host, { limits: { maxConnectionsPerIp: 1000, maxTotalConnections: 10_000, connectionTimeoutMs: 60_000 } });
  let done = 0;
  const cycles = (count) =>
    many(count, WIDTH, async () => {
      const peer = new Peer(server.port, dice.below(200));
      await ways[dice.pick(['clean', 'clean', 'fin', 'reset', 'early', 'half'])](peer, dice);
      if (++done % 1000 === 0) tell(`${done} of ${counts.cycles}`);
    });
  const warm = Math.ceil(counts.cycles / 4);
  await cycles(warm);
  await server.seats(0);
  const before = await server.memory();
  await cycles(counts.cycles - warm);
  await server.seats(0);
  const after = await server.memory();
  const { admitted } = await server.settle();
  const grown = (after.rss - before.rss) / MIB;
  const figures = [`${counts.cycles} cycles, ${admitted} let in`, `resident ${(before.rss / MIB).toFixed(0)} MiB, later ${(after.rss / MIB).toFixed(0)}`];
  // Few cycles tell of what is compiled and cached, and of nothing else.
  if (counts.cycles >= 20_000) {
    if (grown > RSS_SLACK_MIB) throw new Error(`memory grows: ${figures.join('; ')}`);
    if (after.heap !== undefined) {
      const each = (after.heap - before.heap) / (counts.cycles - warm);
      figures.push(`heap ${each.toFixed(1)} bytes a cycle`);
      if (each > HEAP_BYTES_EACH) throw new Error(`the heap grows: ${figures.join('; ')}`);
    }
    if (after.objects !== undefined) {
      const each = (after.objects - before.objects) / (counts.cycles - warm);
      figures.push(`${each.toFixed(3)} objects a cycle`);
      if (each > 0.1) throw new Error(`objects are kept: ${figures.join('; ')}`);
    }
  }
  return figures.join('; ');
}
