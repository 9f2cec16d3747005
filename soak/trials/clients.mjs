// Clients that vanish, stop, and do not read.
import { Herd, Server, until } from '../process.mjs';
import { Peer, frame, many } from '../peers.mjs';

/** Processes full of clients are killed; some while they connect. */
export async function killed({ host, dice, counts, tell }) {
  const server = await Server.start(host, { limits: { maxConnectionsPerIp: 1000 } });
  const size = counts.herd;
  for (let round = 0; round < counts.herds; round++) {
    const herds = await Promise.all([
      Herd.start(server.port, size, { sendEveryMs: 5 }),
      Herd.start(server.port, size),
    ]);
    await server.seats(2 * size);
    const [first, second] = dice.next() < 0.5 ? herds : herds.toReversed();
    await first.kill();
    await server.seats(size);
    await second.kill();
    await server.seats(0);
    tell(`${round + 1} of ${counts.herds}`);
  }
  const { admitted } = await server.settle();
  if (admitted !== 2 * size * counts.herds) throw new Error(`${admitted} were let in`);
  return `${2 * counts.herds} processes of ${size} clients killed`;
}

/** Processes are stopped: the system still acknowledges their packets, and nobody answers. */
export async function halfOpen({ host, counts }) {
  const server = await Server.start(host, {
    limits: {},
    websockets: { pingIntervalMs: 100, pongTimeoutMs: 3000 },
  });
  const [silent, living] = await Promise.all([
    Herd.start(server.port, counts.herd),
    Herd.start(server.port, counts.herd),
  ]);
  await server.seats(2 * counts.herd);
  silent.child.kill('SIGSTOP');
  const { pongTimeouts } = await server.seats(counts.herd);
  if (pongTimeouts !== counts.herd)
    throw new Error(`${pongTimeouts} clients were found silent, ${counts.herd} are`);
  if (living.out.includes('closed'))
    throw new Error(`a client that answers was closed: ${living.out}`);
  await Promise.all([silent.kill(), living.kill()]);
  await server.settle();
  return `${counts.herd} clients stopped answering and were closed, ${counts.herd} beside them stayed`;
}

/** They ask for 16 MiB each and read none of it. */
export async function deaf({ host, counts }) {
  const server = await Server.start(host, {
    limits: {},
    websockets: { maxBufferedBytes: 2 ** 18, maxBufferedMs: 200 },
  });
  const reader = new Peer(server.port);
  if (!(await reader.opens())) throw new Error('a client was not let in');
  const peers = Array.from({ length: counts.deaf }, (_, at) => new Peer(server.port, at));
  await many(peers.length, peers.length, async (at) => {
    if (!(await peers[at].opens())) throw new Error('a client was not let in');
    peers[at].socket.pause();
    peers[at].write(frame(1, Buffer.from('flood')));
  });
  const { slowConsumers } = await server.seats(1);
  if (slowConsumers !== counts.deaf)
    throw new Error(`${slowConsumers} were found slow, ${counts.deaf} are`);
  reader.write(frame(1, Buffer.from('still here')));
  if (!(await reader.sees((seen) => seen.includes('still here'))))
    throw new Error('a client that reads was closed');
  await Promise.all(peers.map((peer) => peer.reset()));
  await reader.reset();
  await server.settle();
  return `${counts.deaf} readers that never read were closed, the one beside them stayed`;
}

/** The loop is blocked for longer than clients may be quiet. */
export async function stalled({ host, counts }) {
  const server = await Server.start(host, {
    limits: { connectionTimeoutMs: 3000, cleanupIntervalMs: 50 },
  });
  const talking = await Herd.start(server.port, counts.herd, { sendEveryMs: 100 });
  await server.seats(counts.herd);
  for (let round = 0; round < counts.stalls; round++) {
    await server.get('/stall?ms=4000');
    // Several sweeps later.
    await new Promise((resolve) => void setTimeout(resolve, 300));
    const { seats, evicted } = await server.figures();
    if (seats !== counts.herd || evicted !== 0)
      throw new Error(
        `a stall of the server has cost ${evicted} clients their seats; ${seats} are left`,
      );
  }
  const silent = await Herd.start(server.port, counts.herd);
  const { evicted } = await until('the eviction of the silent', async () => {
    const seen = await server.figures();
    return { isDone: seen.evicted >= counts.herd && seen.seats === counts.herd, seen };
  });
  await silent.says(new RegExp(`closed with 1001, ${counts.herd} by now`));
  await Promise.all([talking.kill(), silent.kill()]);
  await server.settle();
  return `${counts.stalls} stalls of 4 s evicted none of ${counts.herd} clients; ${evicted} silent ones were evicted`;
}
