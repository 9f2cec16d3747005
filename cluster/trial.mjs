// One run of the harness: a server, processes with their proxies, a fault again and again, and at the end
// the replay of all logs and a look at what the server holds.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { FAULTS } from './faults.mjs';
import { Proxy } from './proxy.mjs';
import { freePort, Redis, withClient } from './redis.mjs';
import { replay } from './replay.mjs';
import { RedisCluster, Sentinels } from './servers.mjs';

export const LEASE_MS = 1500;
export const BEAT_MS = 300;
export const LIMITS = { total: 400, user: 3, address: 12, anonymous: 40 };
/** A few keys are asked for more than it allows by every process. */
export const RATE = { name: 'trial', limit: 20, windowMs: 2000, burst: 20 };
const NODE = fileURLToPath(new URL('node.mjs', import.meta.url));
const BUN = fileURLToPath(new URL('../node_modules/.bin/bun', import.meta.url));
/** Managers of each process: one refuses newcomers, in the other one they replace the oldest connection. */
const MANAGERS = ['trial', 'replace'];
const metaOf = (manager) => `{pc2:${manager}}:m`;
const META = metaOf(MANAGERS[0]);
/** Pause between two looks at the server's members, ms: how exactly the time until seats are back is known. */
const LOOK_MS = 20;

/** Longest time until a lost name is told again, ms. */
const NAMES_MS = 75_000;

/** Servers that are not one alone. */
const KINDS = { sentinel: Sentinels, cluster: RedisCluster };

/** Time as the processes write it. */
export const now = () => Date.now();

/** Runs that are not over: closed when the harness is interrupted. */
export const worlds = new Set();

/** The processes, the server and the proxies of one run. */
export class World {
  constructor(settings) {
    worlds.add(this);
    this.settings = settings;
    this.folder = mkdtempSync(join(tmpdir(), 'portcullis-trial-'));
    /** Running processes by name. */
    this.nodes = new Map();
    this.ended = new Map();
    /** Processes that were killed. */
    this.dead = [];
    this.events = [];
    this.serial = 0;
    /** Longest time after a strike until the seats of all processes, and of nobody else, counted, ms. */
    this.backMs = 0;
    this.isClosed = false;
  }

  async start() {
    const { kind } = FAULTS[this.settings.fault];
    if (kind !== undefined) this.servers = await KINDS[kind].start();
    this.redis = (await this.servers?.server(META)) ?? (await new Redis(await freePort()).start());
    await Promise.all(
      Array.from({ length: this.settings.nodes }, (_, at) =>
        this.startNode({ isIdle: this.settings.idle === at }),
      ),
    );
    await this.allUp(LEASE_MS * 6 + 5000);
  }

  /** Starts a process; every second one on Bun. */
  async startNode({ isIdle = false } = {}) {
    const at = this.serial++;
    const name = `n${at}`;
    const proxy = await new Proxy(() => this.redis.port).listen();
    const { runtimes } = this.settings;
    const runtime = runtimes[at % runtimes.length];
    const child = spawn(runtime === 'bun' ? BUN : process.execPath, [NODE], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: {
        ...process.env,
        ...(this.settings.without === undefined
          ? {}
          : { PORTCULLIS_TRIAL_WITHOUT: this.settings.without }),
        CLUSTER_NODE: JSON.stringify({
          name,
          log: join(this.folder, `${name}.log`),
          url: `redis://127.0.0.1:${proxy.port}`,
          seed: this.settings.seed * 1000 + at + 1,
          limits: {
            maxTotalConnections: LIMITS.total,
            maxConnectionsPerIp: LIMITS.address,
            maxConnectionsPerUser: LIMITS.user,
            maxAnonymousConnections: LIMITS.anonymous,
          },
          options: {
            leaseMs: LEASE_MS,
            beatMs: BEAT_MS,
            admitTimeoutMs: 150,
            onUnreachable: this.settings.policy,
            nodeName: name,
            presence: 'names',
            ...this.servers?.options,
            ...(this.settings.policy === 'share' ? { expectedMembers: this.settings.nodes } : {}),
          },
          users: 200,
          addresses: 60,
          target: 150,
          pauseMs: 4,
          rate: RATE,
          ...this.settings.shape,
          isIdle,
          operations: this.settings.operations,
        }),
      },
    });
    const node = {
      name,
      child,
      proxy,
      runtime,
      state: 'joining',
      reports: [],
      presence: [],
      isIdle,
    };
    // One that has ended hears no more.
    child.stdin.on('error', () => undefined);
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
      for (let end; (end = text.indexOf('\n')) !== -1; text = text.slice(end + 1)) {
        const line = text.slice(0, end);
        if (line.startsWith('state ')) {
          node.state = line.slice(6);
          node.wasUp ||= node.state === 'up';
        }
        if (line.startsWith('report ')) node.reports.push(JSON.parse(line.slice(7)));
        if (line.startsWith('presence ')) node.presence.push(JSON.parse(line.slice(9)));
        if (line.startsWith('done ')) node.isDone = true;
      }
    });
    node.gone = new Promise((done) => {
      child.once('exit', (code, signal) => {
        this.nodes.delete(name);
        this.ended.set(name, now());
        if (signal !== 'SIGKILL' && !this.isClosed)
          this.events.push([now(), `${name} ended by itself: ${signal ?? code}`]);
        done();
      });
    });
    this.nodes.set(name, node);
    return node;
  }

  /** Waits until every process is up; `false` if one is not. */
  async allUp(ms) {
    for (const until = now() + ms; now() < until; await sleep(20))
      if ([...this.nodes.values()].every(({ state }) => state === 'up')) return true;
    return false;
  }

  pick(filter = () => true) {
    const nodes = [...this.nodes.values()].filter(filter);
    return nodes[Math.floor(Math.random() * nodes.length)];
  }

  note(text) {
    this.events.push([now(), text]);
  }

  async killNode(node) {
    node.child.kill('SIGKILL');
    await node.gone;
    node.killedAt = now();
    node.proxy.close();
    this.dead.push(node);
    this.note(`killed ${node.name}`);
  }

  client(act) {
    return withClient(this.redis.port, act);
  }

  say(command) {
    for (const { child } of this.nodes.values()) child.stdin.write(`${command}\n`);
  }

  async reports() {
    for (const node of this.nodes.values()) node.reports = [];
    this.say('report');
    for (let left = 100; left > 0; left--) {
      if ([...this.nodes.values()].every(({ reports }) => reports.length > 0)) break;
      await sleep(20);
    }
    return [...this.nodes.values()].map(({ reports }) => reports.at(-1));
  }

  /** Asks one process who is online. */
  async presence(users) {
    const node = this.pick();
    node.presence = [];
    node.child.stdin.write(`presence ${JSON.stringify(users)}\n`);
    for (let left = 250; left > 0 && node.presence.length === 0; left--) await sleep(20);
    return node.presence[0] ?? { problem: `${node.name} does not answer` };
  }

  /** Fields of a manager's hash, by their names; and its client. */
  async #onServer(manager, act) {
    const meta = metaOf(manager);
    // In a Redis Cluster each manager's keys have a slot of their own.
    const isCluster = FAULTS[this.settings.fault].kind === 'cluster';
    const { port } = isCluster ? await this.servers.server(meta) : this.redis;
    return withClient(port, async (client) => {
      const flat = await client.call('HGETALL', meta);
      const fields = new Map();
      for (let at = 0; at < flat.length; at += 2)
        fields.set(flat[at].toString('latin1'), flat[at + 1]);
      const live = fields.get('live') ?? [];
      return act(fields, (index) => ((live[index >> 3] ?? 0) >> (index & 7)) & 1, client);
    });
  }

  /** Seats of a manager on the server: the sum of all entries whose index counts. */
  async audit(manager = MANAGERS[0]) {
    return this.#onServer(manager, async (fields, isLive, client) => {
      const sums = { i: 0, u: 0 };
      const strays = { entries: 0, keys: 0 };
      // Without that rule, buckets carry none.
      const hasGenerations = this.settings.without !== 'generation';
      const generation = hasGenerations ? fields.get('g')?.toString('latin1') : '';
      for (const key of await client.call('KEYS', `{pc2:${manager}}:b:*`)) {
        if (!key.toString('latin1').includes(`:b:${generation}:`)) {
          strays.keys++;
          continue;
        }
        const entries = await client.call('HGETALL', key);
        for (let at = 0; at < entries.length; at += 2) {
          const value = entries[at + 1];
          for (let from = 0; from < value.length; from += 5) {
            const scope = String.fromCharCode(entries[at][0]);
            if (isLive(value.readUInt16BE(from)))
              sums[scope] = (sums[scope] ?? 0) + value.readUIntBE(from + 2, 3);
            else strays.entries++;
          }
        }
      }
      const number = (name) => Number(fields.get(name)?.toString() ?? 0);
      const members = [...fields.keys()].filter((name) => /^T\d+$/.test(name));
      const gc = [...(fields.get('gc') ?? [])].reduce((sum, byte) => sum + byte, 0);
      return {
        manager,
        address: sums.i,
        user: sums.u,
        anonymous: number('A'),
        total: number('T'),
        members: members.reduce((sum, name) => sum + number(name), 0),
        gc,
        strays,
      };
    });
  }

  /** Watches how long seats stay away after a strike, until the world is closed. */
  async watch() {
    // Since when something is missing, and the strike that it counts from.
    let since;
    for (; !this.isClosed; await sleep(LOOK_MS)) {
      const live = await this.#liveNames().catch(() => undefined);
      if (this.isClosed) return;
      for (const node of this.dead) {
        if (node.isBack || live === undefined || live.has(node.name)) continue;
        node.isBack = true;
        this.backMs = Math.max(this.backMs, now() - node.killedAt);
      }
      const isWhole =
        live !== undefined &&
        [...this.nodes.values()].every(
          ({ name, state, wasUp }) => !wasUp || (state === 'up' && live.has(name)),
        );
      if (!isWhole) since ??= now();
      else if (since !== undefined) {
        const strikes = this.events.map(([at]) => at);
        // A hiccup that begins later than a lease after the last strike comes from the machine.
        const from =
          strikes.find((at) => at >= since) ?? strikes.findLast((at) => at > since - LEASE_MS);
        if (from !== undefined) this.backMs = Math.max(this.backMs, now() - from);
        since = undefined;
      }
    }
  }

  /** Names of the processes whose seats count. */
  #liveNames() {
    return this.#onServer(MANAGERS[0], (fields, isLive) => {
      const names = [...fields].filter(([name]) => /^N\d+$/.test(name));
      const live = names.filter(([name]) => isLive(Number(name.slice(1))));
      return new Set(live.map(([, name]) => name.toString()));
    });
  }

  async close() {
    this.isClosed = true;
    worlds.delete(this);
    for (const node of this.nodes.values()) {
      node.child.kill('SIGCONT');
      node.child.kill('SIGKILL');
      node.proxy.close();
    }
    await this.redis?.remove();
    await this.servers?.remove();
    if (!this.settings.keep) rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Strikes again and again. */
async function strikes(world, fault, seconds) {
  const until = now() + seconds * 1000;
  while (now() < until) {
    await sleep(700 + Math.random() * 600);
    await fault.strike(world);
  }
  const isUp = await world.allUp(LEASE_MS * 4 + 3000);
  return isUp
    ? []
    : [
        `not up at the end: ${[...world.nodes.values()].map(({ name, state }) => `${name} ${state}`).join(', ')}`,
      ];
}

/** Lets all processes do a number of operations, as fast as they are answered. */
async function race(world, operations) {
  world.say(`race ${Math.ceil(operations / world.nodes.size)}`);
  while ([...world.nodes.values()].some(({ isDone }) => !isDone)) {
    if (world.events.length > 0) break;
    await sleep(100);
  }
  return [];
}

/** Waits until the server's counts are those of the processes; returns what differs in the end. */
async function settleDown(world, restMs) {
  let audits;
  let reports;
  const until = now() + restMs;
  do {
    await sleep(300);
    audits = await Promise.all(MANAGERS.map((manager) => world.audit(manager)));
    reports = await world.reports();
  } while (now() < until && !audits.every((audit) => isAtRest(audit, reports)));
  const problems = audits
    .filter((audit) => !isAtRest(audit, reports))
    .map(
      (audit) =>
        `at rest: ${audit.manager}: held ${held(audit.manager, reports)}, by address ${audit.address}, by user ${audit.user}, anonymous ${audit.anonymous}, total ${audit.total}, members ${audit.members}, gc ${audit.gc}, strays ${audit.strays.entries} and ${audit.strays.keys} keys`,
    );
  const lost = Math.max(...audits.map((audit) => lostSeats(audit, reports)));
  return { audits, reports, lost, problems };
}

/** Compares who is online, as a process is told, with what all processes hold. */
async function comparePresence(world, reports) {
  const byUser = new Map();
  for (const { seats } of reports)
    for (const manager of MANAGERS)
      for (const [user, count] of Object.entries(seats[manager].byUser))
        if (user !== '-') byUser.set(user, (byUser.get(user) ?? 0) + count);
  const asked = [...byUser.keys()].slice(0, 20).concat('nobody');
  // A name that is lost with a connection to the server is told again within a minute.
  const until = now() + NAMES_MS;
  let problem;
  do {
    const { problem: failure, online, counts } = await world.presence(asked);
    if (failure !== undefined) problem = failure;
    else {
      const listed = new Set(online);
      const missing = [...byUser.keys()].filter((user) => !listed.has(user));
      const wrong = [...listed].filter((user) => !byUser.has(user));
      const miscounted = asked.filter((user) => counts[user] !== (byUser.get(user) ?? 0));
      problem =
        missing.length + wrong.length + miscounted.length === 0
          ? undefined
          : `presence: missing ${missing.join(' ') || 'nobody'}, not online ${wrong.join(' ') || 'nobody'}, counts of ${miscounted.join(' ') || 'nobody'} differ`;
    }
    if (problem !== undefined) await sleep(500);
  } while (problem !== undefined && now() < until);
  return problem === undefined ? [] : [problem];
}

/** Returns which limits were passed, and by how much. */
function judge(seen, settings, fault, world) {
  const problems = [];
  const allowed = fault.bound?.(world) ?? 0;
  // With `share` and `open` the limits are passed while the server is away: only the rest is judged.
  if (settings.policy !== 'closed') return problems;
  if (Math.max(...Object.values(seen.over)) > allowed)
    problems.push(
      `over the limit: ${Object.entries(seen.over)
        .map(([kind, count]) => `${kind} ${count}`)
        .join(
          ', ',
        )}, for ${seen.overMs} ms${allowed === 0 ? '' : `; at most ${allowed} are allowed`}`,
    );
  if (seen.overRate > (fault.rateBound?.() ?? 0))
    problems.push(`over the rate: ${seen.overRate} of ${seen.units} units`);
  if (seen.isOverAtEnd && fault.bound === undefined) problems.push('over the limit at the end');
  // While nothing fails, a refusal has a cause.
  const { count, first } = settings.fault === 'none' ? seen.causeless() : { count: 0 };
  if (count > 0)
    problems.push(`refused without a cause: ${count} of ${seen.refusals}, as ${first.join(' ')}`);
  return problems;
}

/**
 * Runs one fault.
 * @param settings `fault`, `seconds`, `seed`, `nodes`, `runtimes`, `policy`, `without` a rule; `operations` in the place
 * of `seconds`
 * @returns the outcome, with `problems`: empty if everything holds
 */
export async function run(settings) {
  const fault = FAULTS[settings.fault];
  const world = new World({ ...settings, idle: fault.idle, shape: fault.shape });
  try {
    await world.start();
    void world.watch();
    const begun = now();
    const problems =
      settings.operations === undefined
        ? await strikes(world, fault, settings.seconds)
        : await race(world, settings.operations);
    const workedMs = now() - begun;
    await sleep(1000);
    world.say('quiet');
    // Audits put lost counts right within a minute; a dead member is declared and cleaned up after.
    await sleep(LEASE_MS + 5 * BEAT_MS);
    const rest = await settleDown(world, fault.restMs ?? 6500);
    const { reports, lost } = rest;
    problems.push(...rest.problems, ...(await comparePresence(world, reports)));
    const seen = replay(world.folder, world.ended, LIMITS, RATE);
    problems.push(...judge(seen, settings, fault, world));
    const crashed = world.events.filter(([, text]) => text.includes('ended by itself'));
    problems.push(...crashed.map(([, text]) => text));
    const odd = reports.flatMap(({ outcomes }) =>
      Object.keys(outcomes).filter((outcome) => /^look .*Error/.test(outcome)),
    );
    problems.push(...new Set(odd));
    return {
      ...settings,
      grants: seen.grants,
      moves: seen.moves,
      takeovers: sum(reports, (report) => report.stats.replace.takeovers),
      operations: sum(reports, ({ done }) => done),
      workedMs,
      most: seen.most,
      over: seen.over,
      overMs: seen.overMs,
      lost,
      backMs: world.backMs,
      strikes: world.events.length,
      slowest: Math.max(...reports.map((report) => report.slowest)),
      losses: sum(reports, (report) => report.stats.trial.losses),
      drift: sum(reports, (report) => report.stats.trial.drift),
      problems,
      world,
      seen,
      reports,
    };
  } finally {
    await world.close();
  }
}

const sum = (reports, of) => reports.reduce((all, report) => all + of(report), 0);
const held = (manager, reports) => sum(reports, ({ seats }) => seats[manager].held);

/** Seats of a manager that are counted and that nobody holds, or the other way round. */
function lostSeats(audit, reports) {
  const counts = [
    audit.address,
    audit.user + audit.anonymous,
    audit.total,
    audit.members,
    sum(reports, ({ seats }) => seats[audit.manager].known),
  ];
  const real = held(audit.manager, reports);
  return Math.max(...counts.map((count) => Math.abs(count - real)));
}

const isAtRest = (audit, reports) =>
  lostSeats(audit, reports) === 0 &&
  audit.gc === 0 &&
  audit.strays.entries === 0 &&
  audit.strays.keys === 0;
