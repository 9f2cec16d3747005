// Measures one contestant, once, from its first client to its last.
import { setTimeout as sleep } from 'node:timers/promises';
import { startClients, startServer } from './processes.mjs';
import { median } from './verdict.mjs';

const CONNECTING = 64;
const IN_FLIGHT = 256;
const FLOODING = 128;
/** Longest wait for the server's count of seats. */
const PATIENCE_MS = 5000;

/** The server of a contestant and its clients. */
class Contest {
  #server;
  #clients;
  #tell;

  constructor(server, clients, tell) {
    this.#server = server;
    this.#clients = clients;
    this.#tell = tell;
  }

  /** Reads the server's own figures. */
  figures() {
    return this.#server.ask({});
  }

  /** Waits until the server counts `seats`, since it may see a close later than the client; returns its figures. */
  async settled(seats) {
    const endMs = performance.now() + PATIENCE_MS;
    let figures = await this.figures();
    while (figures.seats !== seats && performance.now() < endMs) {
      await sleep(20);
      figures = await this.figures();
    }
    return figures;
  }

  async wait(phase, ms) {
    this.#tell(phase, 0);
    await sleep(ms);
  }

  /** Runs a phase; returns its result, and the server's figures and CPU time. */
  async run(phase, options = {}) {
    this.#clients.onProgress = (part) => this.#tell(phase, part);
    this.#tell(phase, 0);
    const before = await this.figures();
    const { result } = await this.#clients.ask({ phase, options });
    const after = await this.figures();
    return { ...result, ...after, cpuSeconds: after.cpuSeconds - before.cpuSeconds };
  }
}

/**
 * Runs the phase `steady` in several windows: the p99 of one window depends on the garbage
 * collection within it.
 */
async function steadyWindows(contest, { rate, steadyMs, windows }) {
  // Warm-up: the server compiles its message path on its own core, which no message should pay for.
  await contest.run('steady', { rate, ms: 2 * steadyMs });
  const parts = [];
  for (let count = 0; count < windows; count++)
    parts.push(await contest.run('steady', { rate, ms: steadyMs }));
  return parts;
}

function steadyFigures(parts) {
  const sum = (of) => parts.reduce((total, part) => total + of(part), 0);
  const middle = (of) => median(parts.map(of));
  const [sent, answered] = [sum((part) => part.sent), sum((part) => part.answered)];
  return {
    sent,
    answered,
    errorRate: 1 - answered / sent,
    meanMs: sum((part) => part.meanMs * part.answered) / answered,
    p50Ms: middle((part) => part.p50Ms),
    p99Ms: middle((part) => part.p99Ms),
    windowsP99Ms: parts.map((part) => part.p99Ms),
    delayP99Ms: middle((part) => part.delayP99Ms),
    cpuPerMillion: (sum((part) => part.cpuSeconds) / answered) * 1e6,
  };
}

const burstFigures = (burst) => ({
  perSecond: burst.perSecond,
  unanswered: burst.unanswered,
  cpuPerMillion: (burst.cpuSeconds / burst.answered) * 1e6,
  serverBusy: burst.cpuSeconds / (burst.answered / burst.perSecond),
  delayP99Ms: burst.delayP99Ms,
});

const floodFigures = (flood, floods) => ({
  statuses: flood.statuses,
  seconds: flood.seconds,
  cpuMicros: (flood.cpuSeconds / floods) * 1e6,
  delayP99Ms: flood.delayP99Ms,
  delayMaxMs: flood.delayMaxMs,
  seats: flood.seats,
});

/**
 * Compares the seats with the clients. They are exact if all clients kept their seats during the
 * flood, one of each two newcomers got the free seat, and no seat is taken at the end.
 */
const seatFigures = (connections, { flood, replace, full, end }) => ({
  afterFlood: flood.seats,
  replaced: replace.statuses,
  full,
  end,
  areExact:
    flood.seats === connections &&
    replace.statuses[101] === replace.left &&
    replace.statuses[429] === replace.left &&
    full === connections &&
    end === 0,
});

/** Runs the phases that need a guard: a bare server refuses no client. */
async function guardPhases(contest, { connections, floods }) {
  const flood = await contest.run('flood', { total: floods, inFlight: FLOODING });
  const { departed } = await contest.run('depart');
  await contest.settled(connections - departed);
  const { statuses } = await contest.run('replace');
  return { flood, replace: { left: departed, statuses } };
}

async function phasesOf(contest, isGuarded, settings) {
  const { connections, warmMs, idleMs, burstMs, floods, settleMs } = settings;
  // The server loads and compiles its code first: that memory belongs to no connection.
  await sleep(settleMs);
  const empty = await contest.figures();
  const connect = await contest.run('connect', { inFlight: CONNECTING });
  await contest.wait('idle', idleMs);
  const idle = await contest.figures();
  const parts = await steadyWindows(contest, settings);
  await contest.run('burst', { inFlight: IN_FLIGHT, ms: warmMs / 2 });
  const burst = await contest.run('burst', { inFlight: IN_FLIGHT, ms: burstMs });
  const { flood, replace } = isGuarded ? await guardPhases(contest, settings) : {};
  const { seats: full } = await contest.settled(connections);
  const leave = await contest.run('leave');
  const { seats: end } = await contest.settled(0);
  const rss = [idle, ...parts, burst, flood].map((figures) => figures?.rssBytes ?? 0);
  return {
    connected: connect.open,
    connectsPerSecond: connections / connect.seconds,
    bytesPerConnection: (idle.rssBytes - empty.rssBytes) / connections,
    idleRssBytes: idle.rssBytes,
    rssBytes: Math.max(...rss),
    steady: steadyFigures(parts),
    burst: burstFigures(burst),
    flood: flood && floodFigures(flood, floods),
    seats: flood && seatFigures(connections, { flood, replace, full, end }),
    leaveSeconds: leave.seconds,
    left: end,
    wrong: leave.wrong,
  };
}

/**
 * Starts a contestant's server and its clients, runs all phases and ends both processes.
 * @param tell is called with the name of the phase under way and its completed part, 0 to 1
 * @returns the figures
 */
export async function measure(host, contestant, settings, tell) {
  const server = startServer(host, contestant, settings.connections);
  let clients;
  try {
    const { port } = await server.hello;
    clients = startClients(port, settings.connections);
    await clients.hello;
    return await phasesOf(new Contest(server, clients, tell), contestant !== 'bare', settings);
  } finally {
    await clients?.end();
    await server.end();
  }
}
