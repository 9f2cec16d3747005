// A trial with connections that end in every way.
import { checkMemory } from '../memory-check.mjs';
import { RawClient, frame, handshakeText } from '../raw-clients.mjs';
import { Server } from '../process.mjs';

const ways = {
  async clean(client) {
    if (!(await client.opens())) throw new Error(`a client was not admitted: ${client.seen}`);
    client.write(Buffer.concat([frame(1, Buffer.from('hello')), frame(8, Buffer.of(3, 232))]));
    await client.closed;
    if (!client.seen.includes('hello')) throw new Error('a message was not answered');
  },
  async fin(client) {
    if (!(await client.opens())) throw new Error(`a client was not admitted: ${client.seen}`);
    client.socket.end();
    await client.closed;
  },
  async reset(client) {
    if (!(await client.opens())) throw new Error(`a client was not admitted: ${client.seen}`);
    await client.reset();
  },
  /** Resets the connection before the answer. */
  async early(client) {
    await new Promise((resolve) => void client.socket.write(handshakeText(), resolve));
    await client.reset();
  },
  async half(client, random) {
    const text = handshakeText();
    await new Promise(
      (resolve) =>
        void client.socket.write(text.slice(0, 1 + random.below(text.length - 2)), resolve),
    );
    await client.reset();
  },
};

/** @param {import('../plan.mjs').Context} context */
export async function connects({ host, random, counts, tell }) {
  const server = await Server.start(host, {
    limits: { maxConnectionsPerIp: 1000, maxTotalConnections: 10_000, connectionTimeoutMs: 60_000 },
  });
  const memory = await checkMemory(server, counts.cycles, tell, async () => {
    const client = new RawClient(server.port, random.below(200));
    await ways[random.pick(['clean', 'clean', 'fin', 'reset', 'early', 'half'])](client, random);
  });
  const { admitted } = await server.settle(counts.waitsForClosing);
  return `${counts.cycles} cycles, ${admitted} admitted; ${memory}`;
}
