// One contestant, once, from its first client to its last.
import { setTimeout as sleep } from 'node:timers/promises';
import { startClients, startServer } from './processes.mjs';

const CONNECTING = 64;
const IN_FLIGHT = 256;
const FLOODING = 128;
const SETTLE_MS = 300;

/**
 * @param tell is told of the phase that runs: its name, and from 0 to 1 how far it is
 * @returns the figures
 */
export async function measure(host, contestant, { connections, rate, warmMs, steadyMs, idleMs, burstMs, floods }, tell) {
  const server = startServer(host, contestant, connections);
  let clients;
  try {
    const { port } = await server.hello;
    clients = startClients(port, connections);
    await clients.hello;
    const figures = () => server.ask({});
    /** What a phase gave, and what it cost the server. */
    const run = async (phase, options = {}) => {
      clients.onProgress = (part) => tell(phase, part);
      tell(phase, 0);
      const before = await figures();
      const { result } = await clients.ask({ phase, options });
      const after = await figures();
      return { ...result, ...after, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
    };
    // What is loaded, compiled and collected at the start is no connection's.
    await sleep(SETTLE_MS);
    const empty = await figures();
    const connect = await run('connect', { inFlight: CONNECTING });
    tell('idle', 0);
    await sleep(idleMs);
    const idle = await figures();
    await run('steady', { rate, ms: warmMs });
    const steady = await run('steady', { rate, ms: steadyMs });
    await run('burst', { inFlight: IN_FLIGHT, ms: warmMs / 2 });
    const burst = await run('burst', { inFlight: IN_FLIGHT, ms: burstMs });
    // A bare server refuses nobody.
    const guards = contestant !== 'bare';
    const flood = guards ? await run('flood', { total: floods, inFlight: FLOODING }) : undefined;
    const replace = guards ? await run('replace') : undefined;
    if (guards) await sleep(SETTLE_MS);
    const { seats } = await figures();
    const leave = await run('leave');
    await sleep(SETTLE_MS);
    const after = await figures();
    const hosts = replace?.left ?? 0;
    return {
      connected: connect.open,
      connectsPerSecond: connections / connect.seconds,
      bytesPerConnection: (idle.rssBytes - empty.rssBytes) / connections,
      idleRssBytes: idle.rssBytes,
      rssBytes: Math.max(idle.rssBytes, steady.rssBytes, burst.rssBytes, flood?.rssBytes ?? 0),
      steady: {
        sent: steady.sent,
        answered: steady.answered,
        errorRate: 1 - steady.answered / steady.sent,
        meanMs: steady.meanMs,
        p50Ms: steady.p50Ms,
        p99Ms: steady.p99Ms,
        delayP99Ms: steady.delayP99Ms,
        cpuPerMillion: (steady.cpuSeconds / steady.answered) * 1e6,
      },
      burst: {
        perSecond: burst.perSecond,
        unanswered: burst.unanswered,
        cpuPerMillion: (burst.cpuSeconds / burst.answered) * 1e6,
        serverBusy: burst.cpuSeconds / (burst.answered / burst.perSecond),
        delayP99Ms: burst.delayP99Ms,
      },
      flood: flood && {
        statuses: flood.statuses,
        seconds: flood.seconds,
        cpuMicros: (flood.cpuSeconds / floods) * 1e6,
        delayP99Ms: flood.delayP99Ms,
        delayMaxMs: flood.delayMaxMs,
        seats: flood.seats,
      },
      // Exact: all were still seated after the flood, one of each two newcomers had the seat that was free, and nobody has one in the end.
      seats: guards
        ? {
            afterFlood: flood.seats,
            replaced: replace.statuses,
            full: seats,
            end: after.seats,
            areExact:
              flood.seats === connections && replace.statuses[101] === hosts && replace.statuses[429] === hosts && seats === connections && after.seats === 0,
          }
        : undefined,
      leaveSeconds: leave.seconds,
      left: after.seats,
      wrong: leave.wrong,
    };
  } finally {
    await clients?.end();
    await server.end();
  }
}
