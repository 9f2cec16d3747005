// Trials with clients that vanish, stop, do not read, or wait for a stalled server.
import { ClientPool, Server, until } from '../process.mjs';
import { inParallel } from '../in-parallel.mjs';
import { RawClient, frame } from '../raw-clients.mjs';

/** Kills processes full of clients, some of which send messages. */
export async function killed({ host, random, counts, tell }) {
  const server = await Server.start(host, { limits: { maxConnectionsPerIp: 1000 } });
  const size = counts.poolClients;
  for (let round = 0; round < counts.poolRounds; round++) {
    const pools = await Promise.all([
      ClientPool.start(server.port, size, { sendEveryMs: 5 }),
      ClientPool.start(server.port, size),
    ]);
    await server.seats(2 * size);
    const [first, second] = random.next() < 0.5 ? pools : pools.toReversed();
    await first.kill();
    await server.seats(size);
    await second.kill();
    await server.seats(0);
    tell(`${round + 1} of ${counts.poolRounds}`);
  }
  const { admitted } = await server.settle(counts.waitsForClosing);
  if (admitted !== 2 * size * counts.poolRounds)
    throw new Error(`${admitted} clients were admitted`);
  return `${2 * counts.poolRounds} processes of ${size} clients killed`;
}

/**
 * Stops a process of clients: the kernel still acknowledges packets, but no client answers pings.
 */
export async function halfOpen({ host, counts }) {
  const server = await Server.start(host, {
    limits: {},
    websockets: { pingIntervalMs: 100, pongTimeoutMs: counts.pongMs },
  });
  const [silent, living] = await Promise.all([
    ClientPool.start(server.port, counts.poolClients),
    ClientPool.start(server.port, counts.poolClients),
  ]);
  await server.seats(2 * counts.poolClients);
  silent.child.kill('SIGSTOP');
  const { pongTimeouts } = await server.seats(counts.poolClients);
  if (pongTimeouts !== counts.poolClients)
    throw new Error(`${pongTimeouts} clients were found silent instead of ${counts.poolClients}`);
  if (living.out.includes('closed'))
    throw new Error(`a client that answers was closed: ${living.out}`);
  await Promise.all([silent.kill(), living.kill()]);
  await server.settle(counts.waitsForClosing);
  return `${counts.poolClients} clients stopped answering and were closed, ${counts.poolClients} beside them stayed`;
}

/** Clients that ask for 16 MiB each and read none of it must be closed. */
export async function slowReaders({ host, counts }) {
  const server = await Server.start(host, {
    limits: {},
    websockets: { maxBufferedBytes: 2 ** 18, maxBufferedMs: 200 },
  });
  const reader = new RawClient(server.port);
  if (!(await reader.opens())) throw new Error('a client was not admitted');
  const clients = Array.from(
    { length: counts.slowReaders },
    (_, at) => new RawClient(server.port, at),
  );
  await inParallel(clients.length, clients.length, async (at) => {
    if (!(await clients[at].opens())) throw new Error('a client was not admitted');
    clients[at].socket.pause();
    clients[at].write(frame(1, Buffer.from('flood')));
  });
  const { slowConsumers } = await server.seats(1);
  if (slowConsumers !== counts.slowReaders)
    throw new Error(`${slowConsumers} clients were found slow instead of ${counts.slowReaders}`);
  reader.write(frame(1, Buffer.from('still here')));
  if (!(await reader.sees((seen) => seen.includes('still here'))))
    throw new Error('a client that reads was closed');
  await Promise.all(clients.map((client) => client.reset()));
  await reader.reset();
  await server.settle(counts.waitsForClosing);
  return `${counts.slowReaders} readers that never read were closed, the one beside them stayed`;
}

/** Blocks the server's event loop for longer than the idle timeout: no client may be evicted. */
export async function stalled({ host, counts }) {
  const server = await Server.start(host, {
    limits: { connectionTimeoutMs: counts.idleMs, cleanupIntervalMs: 50 },
  });
  const talking = await ClientPool.start(server.port, counts.poolClients, { sendEveryMs: 100 });
  await server.seats(counts.poolClients);
  for (let round = 0; round < counts.stalls; round++) {
    await server.get(`/stall?ms=${counts.stallMs}`);
    // Several sweeps run meanwhile.
    await new Promise((resolve) => void setTimeout(resolve, 300));
    const { seats, evicted } = await server.figures();
    if (seats !== counts.poolClients || evicted !== 0)
      throw new Error(
        `a stall of the server has cost ${evicted} clients their seats; ${seats} are left`,
      );
  }
  const silent = await ClientPool.start(server.port, counts.poolClients);
  const { evicted } = await until('the eviction of the silent', async () => {
    const seen = await server.figures();
    return {
      isDone: seen.evicted >= counts.poolClients && seen.seats === counts.poolClients,
      seen,
    };
  });
  await silent.says(new RegExp(`closed with 1001, ${counts.poolClients} by now`));
  await Promise.all([talking.kill(), silent.kill()]);
  await server.settle(counts.waitsForClosing);
  return `${counts.stalls} stalls of ${counts.stallMs / 1000} s evicted none of ${counts.poolClients} clients; ${evicted} silent ones were evicted`;
}
