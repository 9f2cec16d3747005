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
const LIMITS = { total: 400, user: 3, address: 12 };
/** A few keys are asked for more than it allows by every process. */
const RATE = { name: 'trial', limit: 20, windowMs: 2000, burst: 20 };
const NODE = fileURLToPath(new URL('node.mjs', import.meta.url));
const BUN = fileURLToPath(new URL('../node_modules/.bin/bun', import.meta.url));
const META = '{pc2:trial}:m';

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
          },
          options: {
            leaseMs: LEASE_MS,
            beatMs: BEAT_MS,
            admitTimeoutMs: 150,
            onUnreachable: this.settings.policy,
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
        }),
      },
    });
    const node = { name, child, proxy, runtime, state: 'joining', reports: [], isIdle };
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
      for (let end; (end = text.indexOf('\n')) !== -1; text = text.slice(end + 1)) {
        const line = text.slice(0, end);
        if (line.startsWith('state ')) node.state = line.slice(6);
        if (line.startsWith('report ')) node.reports.push(JSON.parse(line.slice(7)));
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
    this.say('report');
    for (let left = 100; left > 0; left--) {
      if ([...this.nodes.values()].every(({ reports }) => reports.length > 0)) break;
      await sleep(20);
    }
    return [...this.nodes.values()].map(({ reports }) => reports.at(-1));
  }

  /** Seats on the server: the sum of all entries whose index counts. */
  async audit() {
    return this.client(async (client) => {
      const flat = await client.call('HGETALL', META);
      const meta = new Map();
      for (let at = 0; at < flat.length; at += 2)
        meta.set(flat[at].toString('latin1'), flat[at + 1]);
      const isLive = (index) => ((meta.get('live')?.[index >> 3] ?? 0) >> (index & 7)) & 1;
      const sums = { i: 0, u: 0 };
      const strays = { entries: 0, keys: 0 };
      const generation = meta.get('g')?.toString('latin1');
      for (const key of await client.call('KEYS', '{pc2:trial}:b:*')) {
        if (!key.toString('latin1').includes(`:${generation}:`)) strays.keys++;
        const fields = await client.call('HGETALL', key);
        for (let at = 0; at < fields.length; at += 2) {
          const value = fields[at + 1];
          for (let from = 0; from < value.length; from += 5) {
            if (isLive(value.readUInt16BE(from)))
              sums[String.fromCharCode(fields[at][0])] += value.readUIntBE(from + 2, 3);
            else strays.entries++;
          }
        }
      }
      const number = (name) => Number(meta.get(name)?.toString() ?? 0);
      const members = [...meta.keys()].filter((name) => /^T\d+$/.test(name));
      const gc = [...(meta.get('gc') ?? [])].reduce((sum, byte) => sum + byte, 0);
      return {
        address: sums.i,
        user: sums.u,
        total: number('T'),
        members: members.reduce((sum, name) => sum + number(name), 0),
        gc,
        strays,
      };
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

/**
 * Runs one fault.
 * @param settings `fault`, `seconds`, `seed`, `nodes`, `runtimes`, `policy`, `without` a rule
 * @returns the outcome, with `problems`: empty if everything holds
 */
export async function run(settings) {
  const fault = FAULTS[settings.fault];
  const world = new World({ ...settings, idle: fault.idle, shape: fault.shape });
  const problems = [];
  try {
    await world.start();
    const until = now() + settings.seconds * 1000;
    while (now() < until) {
      await sleep(700 + Math.random() * 600);
      await fault.strike(world);
    }
    const isUp = await world.allUp(LEASE_MS * 4 + 3000);
    if (!isUp)
      problems.push(
        `not up at the end: ${[...world.nodes.values()].map(({ name, state }) => `${name} ${state}`).join(', ')}`,
      );
    await sleep(1000);
    world.say('quiet');
    // Audits put lost counts right within a minute; a dead member is declared and cleaned up after.
    await sleep(LEASE_MS + 5 * BEAT_MS + 2500);
    let rest;
    let reports;
    const restUntil = now() + (fault.restMs ?? 4000);
    do {
      await sleep(300);
      rest = await world.audit();
      reports = await world.reports();
    } while (now() < restUntil && !isAtRest(rest, reports));
    if (!isAtRest(rest, reports))
      problems.push(
        `at rest: held ${sum(reports, 'held')}, by address ${rest.address}, by user ${rest.user}, total ${rest.total}, members ${rest.members}, gc ${rest.gc}, strays ${rest.strays.entries} and ${rest.strays.keys} keys`,
      );
    const seen = replay(world.folder, world.ended, LIMITS, RATE);
    const allowed = fault.bound?.(world) ?? 0;
    // With `share` and `open` the limits are passed while the server is away: only the rest is judged.
    const isJudged = settings.policy === 'closed';
    if (isJudged && Math.max(seen.over.total, seen.over.user, seen.over.address) > allowed)
      problems.push(
        `over the limit: total ${seen.over.total}, user ${seen.over.user}, address ${seen.over.address}, for ${seen.overMs} ms${allowed === 0 ? '' : `; at most ${allowed} are allowed`}`,
      );
    if (isJudged && seen.overRate > 0)
      problems.push(`over the rate: ${seen.overRate} of ${seen.units} units`);
    if (isJudged && seen.isOverAtEnd && fault.bound === undefined)
      problems.push('over the limit at the end');
    const crashed = world.events.filter(([, text]) => text.includes('ended by itself'));
    problems.push(...crashed.map(([, text]) => text));
    const slowest = Math.max(...reports.map((report) => report.slowest));
    return {
      ...settings,
      grants: seen.grants,
      most: seen.most,
      over: seen.over,
      overMs: seen.overMs,
      strikes: world.events.length,
      slowest,
      losses: sum(reports, 'losses'),
      drift: sum(reports, 'drift'),
      problems,
      world,
      seen,
      reports,
    };
  } finally {
    await world.close();
  }
}

const sum = (reports, field) => reports.reduce((all, report) => all + report[field], 0);

function isAtRest(rest, reports) {
  const held = sum(reports, 'held');
  return (
    [rest.address, rest.user, rest.total, rest.members, sum(reports, 'totalConnections')].every(
      (count) => count === held,
    ) &&
    rest.gc === 0 &&
    rest.strays.entries === 0 &&
    rest.strays.keys === 0
  );
}
