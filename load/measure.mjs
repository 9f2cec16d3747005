// One contestant, once, from its first client to its last.
import { setTimeout as sleep } from 'node:timers/promises';
import { startClients, startServer } from './processes.mjs';
import { median } from './verdict.mjs';

const CONNECTING = 64;
const IN_FLIGHT = 256;
const FLOODING = 128;
const SETTLE_MS = 300;

/**
 * @param tell is told of the phase that runs: its name, and from 0 to 1 how far it is
 * @returns the figures
 */
export async function measure(
  host,
  contestant,
  { connections, rate, warmMs, steadyMs, windows, idleMs, burstMs, floods },
  tell,
) {
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
    // What is compiled meanwhile, on the server's own core, is no message's, either.
    await run('steady', { rate, ms: 2 * steadyMs });
    // A percentile of one window is made by the collection that fell into it: several, of which the median is told.
    const parts = [];
    for (let count = 0; count < windows; count++)
      parts.push(await run('steady', { rate, ms: steadyMs }));
    const sum = (of) => parts.reduce((total, part) => total + of(part), 0);
    const [sent, answered] = [sum((part) => part.sent), sum((part) => part.answered)];
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
      rssBytes: Math.max(
        idle.rssBytes,
        ...parts.map((part) => part.rssBytes),
        burst.rssBytes,
        flood?.rssBytes ?? 0,
      ),
      steady: {
        sent,
        answered,
        errorRate: 1 - answered / sent,
        meanMs: sum((part) => part.meanMs * part.answered) / answered,
        p50Ms: median(parts.map((part) => part.p50Ms)),
        p99Ms: median(parts.map((part) => part.p99Ms)),
        windowsP99Ms: parts.map((part) => part.p99Ms),
        delayP99Ms: median(parts.map((part) => part.delayP99Ms)),
        cpuPerMillion: (sum((part) => part.cpuSeconds) / answered) * 1e6,
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
              flood.seats === connections &&
              replace.statuses[101] === hosts &&
              replace.statuses[429] === hosts &&
              seats === connections &&
              after.seats === 0,
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
