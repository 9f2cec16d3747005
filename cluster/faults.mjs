// The faults of the harness. `strike` is called again and again; `bound` and `rateBound` allow seats over the limit and
// units over the rate where the documents do; `idle` is a process that asks for nothing; `shape` changes its clients.
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort, Redis, withClient } from './redis.mjs';
import { BEAT_MS, LEASE_MS, RATE } from './trial.mjs';
import { Proxy } from './proxy.mjs';

const META = '{pc2:trial}:m';
/** Reads all keys at one moment. */
const DUMP = `local out = {}
for _, key in ipairs(redis.call('KEYS', '*')) do out[#out + 1] = key; out[#out + 1] = redis.call('DUMP', key) end
return out`;
/** Replaces everything by what was read. */
const BACK = `for _, key in ipairs(redis.call('KEYS', '*')) do redis.call('DEL', key) end
for at = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[at], 0, ARGV[at + 1]) end
return 'OK'`;

/** The idle process, if there is one, is busy in the time that is lost, and silent when the server goes back. */
async function goBack(world, ms) {
  const idle = [...world.nodes.values()].find(({ isIdle }) => isIdle);
  await world.client(async (client) => {
    const state = await client.call('EVAL', DUMP, 0);
    idle?.child.stdin.write('busy\n');
    await sleep(ms * 0.8);
    idle?.child.stdin.write('idle\n');
    await sleep(ms * 0.2);
    await client.call('EVAL', BACK, 0, ...state);
  });
  world.note(`went back ${ms} ms`);
}

async function flush(world) {
  await world.client((client) => client.call('FLUSHALL'));
  world.note('FLUSHALL');
}

async function killOne(world) {
  const node = world.pick();
  await world.killNode(node);
  await sleep(200);
  await world.startNode();
}

async function restart(world, awayMs = 500) {
  await world.redis.kill();
  await sleep(awayMs);
  await world.redis.start();
  world.note(`restarted empty after ${awayMs} ms`);
}

async function pause(world, ms) {
  world.redis.signal('SIGSTOP');
  await sleep(ms);
  world.redis.signal('SIGCONT');
  world.note(`paused ${ms} ms`);
}

/**
 * A replica, whose link is held shortly before the primary dies, takes over. The idle process, which has lost nothing
 * itself, reaches it first.
 */
async function promote(world) {
  const primary = world.redis;
  const link = await new Proxy(() => primary.port).listen();
  const replica = await new Redis(await freePort(), [
    '--replicaof',
    `127.0.0.1 ${link.port}`,
    '--repl-diskless-sync-delay',
    0,
  ]).start();
  for (let left = 100; left > 0; left--) {
    const info = await withClient(replica.port, (client) => client.call('INFO', 'replication'));
    if (info.toString().includes('master_link_status:up')) break;
    await sleep(50);
  }
  await sleep(300);
  link.hold();
  await sleep(120);
  await primary.kill();
  link.lose();
  link.close();
  await withClient(replica.port, (client) => client.call('REPLICAOF', 'NO', 'ONE'));
  world.redis = replica;
  world.note('promoted a replica that lacks 120 ms');
  const nodes = [...world.nodes.values()];
  const idle = nodes.find(({ isIdle }) => isIdle);
  for (const { proxy } of nodes.filter((node) => node !== idle)) proxy.hold();
  idle.proxy.drop();
  idle.child.stdin.write('busy\n');
  await sleep(400);
  for (const { proxy } of nodes.filter((node) => node !== idle)) proxy.lose();
  await settle();
  idle.child.stdin.write('idle\n');
  await primary.remove();
}

/** Another process has the index of a dead one, whose calls run once more. */
async function heir(world) {
  const node = world.pick();
  await world.killNode(node);
  for (let left = 100; left > 0 && (await world.audit()).gc === 0; left--) await sleep(50);
  for (let left = 200; left > 0 && (await world.audit()).gc !== 0; left--) await sleep(50);
  await world.startNode();
  await world.allUp(5000);
  await sleep(300);
  if (node.proxy.repeat())
    world.note(`late copies of all calls of ${node.name}, which has an heir`);
  await sleep(1000);
}

/** Everything is lost, and a process that knows nobody joins first. */
async function newcomerFirst(world) {
  for (const { proxy } of world.nodes.values()) proxy.hold();
  await flush(world);
  const newcomer = await world.startNode();
  await sleep(400);
  for (const { proxy } of world.nodes.values()) proxy.resume();
  await sleep(LEASE_MS + 2 * BEAT_MS);
  await world.killNode(newcomer);
}

/** So few users that most are at their limit, and the total never is: a write that is lost shows at once. */
const BUSY_USERS = { users: 60, target: 75 };
/** Clients pause until the rates have their whole burst, spend it, and the server loses that they did. */
async function loseBurst(world) {
  world.say('idle');
  await sleep(RATE.windowMs + 500);
  world.say('busy');
  await sleep(200);
  await flush(world);
}

const BACK_MS = 400;
/** Units that may have been spent in the time that is lost, and until the next beat finds the loss. */
const lostUnits = () => RATE.burst + Math.ceil(((BACK_MS + BEAT_MS) * RATE.limit) / RATE.windowMs);
const settle = () => sleep(LEASE_MS + 3 * BEAT_MS);

export const FAULTS = {
  none: { strike: () => undefined },
  kill: { strike: killOne },
  drop: {
    strike(world) {
      world.pick().proxy.drop();
      world.note('dropped a link');
    },
  },
  slow: {
    async strike(world) {
      const { proxy } = world.pick();
      proxy.delayMs = 75 + Math.random() * 200;
      await sleep(1200);
      proxy.delayMs = 0;
      world.note('slowed a link');
    },
  },
  pause: { strike: (world) => pause(world, 700) },
  'pause-long': {
    async strike(world) {
      await pause(world, LEASE_MS * 2);
      await settle();
    },
  },
  restart: {
    async strike(world) {
      await restart(world);
      await settle();
    },
  },
  away: {
    // So long that everybody pauses between attempts: all must be back within the lease in which they are waited for.
    shape: BUSY_USERS,
    async strike(world) {
      await restart(world, LEASE_MS * 2);
      await settle();
    },
  },
  flush: {
    async strike(world) {
      await flush(world);
      await settle();
    },
  },
  burst: {
    async strike(world) {
      await loseBurst(world);
      await settle();
    },
  },
  idle: {
    idle: 0,
    rateBound: lostUnits,
    async strike(world) {
      await (Math.random() < 0.5 ? flush(world) : goBack(world, BACK_MS));
      await settle();
    },
  },
  first: {
    async strike(world) {
      await newcomerFirst(world);
      await settle();
    },
  },
  back: {
    idle: 0,
    rateBound: lostUnits,
    shape: BUSY_USERS,
    async strike(world) {
      await goBack(world, BACK_MS);
      await settle();
    },
  },
  promote: {
    idle: 0,
    shape: BUSY_USERS,
    async strike(world) {
      await promote(world);
      await settle();
    },
  },
  'delete-meta': {
    async strike(world) {
      await world.client((client) => client.call('DEL', META));
      world.note('deleted m');
      await settle();
    },
  },
  'delete-bucket': {
    // A bucket that is lost alone is put right by the audit, within a minute; until then its seats may be given
    // again. Here that is one key of one limit, or a few.
    restMs: 75_000,
    bound: () => 12,
    async strike(world) {
      await world.client(async (client) => {
        const keys = await client.call('KEYS', '{pc2:trial}:b:*');
        if (keys.length > 0)
          await client.call('DEL', keys[Math.floor(Math.random() * keys.length)]);
      });
      world.note('deleted a bucket');
      await sleep(1000);
    },
  },
  late: {
    async strike(world) {
      const node = world.pick();
      node.proxy.drop();
      await sleep(100 + Math.random() * 400);
      if (node.proxy.repeat()) world.note(`late copies of all calls of ${node.name}`);
      // Those of a process that was killed, too: another may have its index by now.
      const dead = world.dead[Math.floor(Math.random() * world.dead.length)];
      if (dead?.proxy.repeat())
        world.note(`late copies of all calls of ${dead.name}, which is dead`);
      if (Math.random() < 0.4) await killOne(world);
    },
  },
  heir: { strike: heir },
  stop: {
    // A process that lives on while it is cut off from all others holds its seats.
    bound: () => 200,
    async strike(world) {
      const { child, name } = world.pick();
      child.kill('SIGSTOP');
      await sleep(LEASE_MS * 2.5);
      child.kill('SIGCONT');
      world.note(`stopped ${name}`);
      await settle();
    },
  },
  cut: {
    bound: () => 200,
    async strike(world) {
      const { proxy, name } = world.pick();
      proxy.hold();
      await sleep(LEASE_MS * 2.5);
      proxy.resume();
      world.note(`cut ${name} off`);
      await settle();
    },
  },
  sentinel: {
    // The replica lacks the last writes of the primary that is killed; Sentinel promotes it.
    kind: 'sentinel',
    shape: BUSY_USERS,
    async strike(world) {
      if (world.hasFailedOver) return;
      world.hasFailedOver = true;
      await world.servers.failOver();
      world.redis = await world.servers.server();
      world.note('Sentinel promoted the replica');
      await settle();
    },
  },
  slot: {
    kind: 'cluster',
    async strike(world) {
      await world.servers.move(META, 30);
      world.redis = await world.servers.server(META);
      world.note('moved the slot to another server');
      await settle();
    },
  },
  all: {
    rateBound: lostUnits,
    async strike(world) {
      const strikes = [
        killOne,
        flush,
        (one) => goBack(one, BACK_MS),
        restart,
        (one) => pause(one, 700),
        (one) => one.pick().proxy.drop(),
        (one) => one.pick().proxy.repeat(),
      ];
      for (let left = 1 + Math.floor(Math.random() * 2); left > 0; left--)
        await strikes[Math.floor(Math.random() * strikes.length)](world);
      await sleep(LEASE_MS);
    },
  },
};

/** Safety rules, and the fault that finds their absence. */
export const RULES = {
  settle: 'flush',
  run: 'promote',
  replace: 'back',
  lost: 'late',
  generation: 'delete-meta',
  doubt: 'burst',
};
