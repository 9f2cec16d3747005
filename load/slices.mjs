// Measures two contestants beside each other: both live, in slices of about a second in turn. What
// disturbs the machine for longer than a slice disturbs both, and the ratio of a pair stays.
import { networkInterfaces } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { startClients, startServer } from './processes.mjs';
import { REFUSING_PATH } from './settings.mjs';

const CONNECTING = 64;
const IN_FLIGHT = 256;
const FLOODING = 64;
/** Addresses of no client: one alone would run out of ports. */
const STRANGERS = Array.from({ length: 100 }, (_, index) => `127.0.9.${10 + index}`);
/** An address of this machine that can be banned: loopback never is. */
const BANNED = Object.values(networkInterfaces())
  .flat()
  .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
/** Part of the refusals of a slice that one address makes: it has as many ports as the system gives it. */
const BANNED_SHARE = 0.2;
const PATIENCE_MS = 5000;

/** Clients that warm a server up, and the times that they connect and leave. */
const WARMING = 300;
const WARMING_TIMES = 4;

/** The server of a contestant with its clients, which stay for the whole run. */
export class Rival {
  #server;
  #port;
  #clients;
  #settings;

  constructor(server, port, clients, settings) {
    this.#server = server;
    this.#port = port;
    this.#clients = clients;
    this.#settings = settings;
  }

  /**
   * @param name a contestant, or `former`: the portcullis of the checkout `settings.tree`
   * @param without features of portcullis to leave out
   */
  static async start(host, name, settings, without = []) {
    const isFormer = name === 'former';
    const contestant = isFormer ? 'portcullis' : name;
    const tree = isFormer ? settings.tree : undefined;
    const server = startServer(host, contestant, settings.connections, without, tree);
    let clients;
    try {
      const { port } = await server.hello;
      clients = startClients(port, settings.connections);
      await clients.hello;
      if (contestant === 'portcullis' && !without.includes('bans') && BANNED !== undefined)
        await server.ask({ banned: BANNED });
      return new Rival(server, port, clients, settings);
    } catch (error) {
      await clients?.end();
      await server.end();
      throw error;
    }
  }

  figures() {
    return this.#server.ask({});
  }

  /** Resident bytes of the server. */
  async residentBytes() {
    return (await this.figures()).rssBytes;
  }

  /** Bytes of its live objects, and of the memory that they hold outside of the heap. */
  async liveBytes() {
    return (await this.#server.ask({ isLive: true })).liveBytes;
  }

  async end() {
    await this.#clients.end();
    await this.#server.end();
  }

  /**
   * Has a few clients connect and leave, so that the server has compiled its code: some megabytes, whatever the
   * number of its connections.
   */
  async warm() {
    const clients = startClients(this.#port, Math.min(WARMING, this.#settings.connections));
    try {
      await clients.hello;
      for (let time = 0; time < WARMING_TIMES; time++) {
        await clients.ask({ phase: 'connect', options: { inFlight: CONNECTING } });
        await clients.ask({ phase: 'leave', options: {} });
        await this.#settled(0);
      }
    } finally {
      await clients.end();
    }
  }

  /** Waits until the server counts `seats`. */
  async #settled(seats) {
    const endMs = performance.now() + PATIENCE_MS;
    while ((await this.figures()).seats !== seats) {
      if (performance.now() > endMs) throw new Error(`the server does not count ${seats} seats`);
      await sleep(10);
    }
  }

  /** Runs a phase; returns its result, and the server's CPU time for one of `count(result)`. */
  async #slice(phase, options, count) {
    const before = await this.figures();
    const { result } = await this.#clients.ask({ phase, options });
    const after = await this.figures();
    const wrong = result.wrong.answers + result.wrong.lost;
    if (wrong > 0) throw new Error(`${wrong} messages were lost or wrong`);
    const done = count(result);
    const micros = (name) => ((after[name] - before[name]) / done) * 1e6;
    return { ...result, cpuMicros: micros('cpuSeconds'), kernelMicros: micros('kernelSeconds') };
  }

  async connect() {
    const { connections } = this.#settings;
    const slice = await this.#slice('connect', { inFlight: CONNECTING }, ({ open }) => open);
    if (slice.open !== connections) throw new Error(`${slice.open} of ${connections} connected`);
    return { ...slice, perSecond: connections / slice.seconds };
  }

  /** As many messages as the server answers. */
  messages() {
    const options = { inFlight: IN_FLIGHT, ms: this.#settings.sliceMs };
    return this.#slice('burst', options, ({ answered }) => answered);
  }

  /**
   * Messages at one rate, whatever the server could answer. Its clients never sleep: a server that takes longer
   * would pay the kernel for waking them.
   */
  paced() {
    const { rate, sliceMs } = this.#settings;
    return this.#slice('steady', { rate, ms: sliceMs }, ({ answered }) => answered);
  }

  /** Connects clients that must be refused with `status`; a share of them where they share one address. */
  async refusals(status, options, share = 1) {
    const total = Math.ceil(this.#settings.refusals * share);
    const asked = { total, inFlight: FLOODING, ...options };
    const slice = await this.#slice('flood', asked, ({ statuses }) => statuses[status] ?? 0);
    if (slice.statuses[status] !== total)
      throw new Error(`not ${total} times ${status}: ${JSON.stringify(slice.statuses)}`);
    return slice;
  }

  async leave() {
    const { connections } = this.#settings;
    const slice = await this.#slice('leave', {}, () => connections);
    await this.#settled(0);
    return slice;
  }
}

const refusing = { path: REFUSING_PATH, strangers: STRANGERS, isForged: false };
const banned = { strangers: [BANNED], isForged: false };
const isBare = (name) => name === 'bare';
const isPortcullis = (name) => name === 'portcullis';
/** The least guard is measured by its connects and its memory alone. */
const isWhole = (name) => name !== 'least';
const hasMemory = (name) => name !== 'former';

/** The slices of a round, each with a test for the contestants that take it. */
const SLICES = [
  ['connect', (rival) => rival.connect()],
  ['messages', (rival) => rival.messages(), isWhole],
  ['paced', (rival) => rival.paced(), isWhole],
  // The host itself accepts a connection, answers it and closes it: the floor.
  ['refused', (rival) => rival.refusals(503, refusing), isBare],
  ['full', (rival) => rival.refusals(429), isPortcullis],
  ['forged', (rival) => rival.refusals(401, { strangers: STRANGERS }), isPortcullis],
  ['banned', (rival) => rival.refusals(429, banned, BANNED_SHARE), isPortcullis],
  ['leave', (rival) => rival.leave()],
].filter(([title]) => title !== 'banned' || BANNED !== undefined);

/** Runs one round: each slice by one contestant after the other. */
async function roundOf(rivals, names, tell) {
  const figures = Object.fromEntries(names.map((name) => [name, {}]));
  for (const [title, run, isFor] of SLICES) {
    for (const name of names) {
      if (isFor?.(name) === false) continue;
      tell(`${name} ${title}`);
      figures[name][title] = await run(rivals[name]);
    }
  }
  return figures;
}

/**
 * Measures the memory of idle connections in a process of its own.
 * @param bytesOf returns the bytes of a rival
 * @returns bytes of a connection
 */
async function memoryOf(host, contestant, settings, bytesOf) {
  const rival = await Rival.start(host, contestant, settings);
  try {
    await rival.warm();
    await sleep(settings.settleMs);
    const empty = await bytesOf(rival);
    await rival.connect();
    await sleep(settings.idleMs);
    return ((await bytesOf(rival)) - empty) / settings.connections;
  } finally {
    await rival.end();
  }
}

/**
 * Measures contestants on a host.
 * @param names the contestants; `bare` is the first
 * @param tell is called with the slice under way
 * @returns `rounds`, each with the figures by contestant and slice; `memory`, each with the resident
 *   bytes of a connection by contestant; and `live`, the live bytes by contestant
 */
export async function measureSlices(host, names, settings, tell) {
  const rivals = {};
  const rounds = [];
  try {
    for (const name of names) rivals[name] = await Rival.start(host, name, settings);
    // The first round loads and compiles the code of both.
    for (let round = -1; round < settings.rounds; round++) {
      // The one that is first in a round is second in the next.
      const order = round % 2 === 0 ? names : names.toReversed();
      const figures = await roundOf(rivals, order, (slice) =>
        tell(`round ${round + 1} of ${settings.rounds}: ${slice}`),
      );
      if (round >= 0) rounds.push(figures);
    }
  } finally {
    for (const rival of Object.values(rivals)) await rival.end();
  }
  const memory = [];
  const measured = names.filter(hasMemory);
  for (let pair = 0; pair < settings.memoryPairs; pair++) {
    const bytes = {};
    for (const name of pair % 2 === 0 ? measured : measured.toReversed()) {
      tell(`memory, pair ${pair + 1} of ${settings.memoryPairs}: ${name}`);
      bytes[name] = await memoryOf(host, name, settings, (rival) => rival.residentBytes());
    }
    memory.push(bytes);
  }
  // One measurement is enough: runs hardly differ. In separate processes, since a garbage collection would change the
  // resident memory.
  const live = {};
  for (const name of measured) {
    tell(`live memory: ${name}`);
    live[name] = await memoryOf(host, name, settings, (rival) => rival.liveBytes());
  }
  return { rounds, memory, live };
}
