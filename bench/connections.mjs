// Compares the connection index with the same design in plain JavaScript; on Bun with PORTCULLIS_FFI=1, too.
// Run: npm run bench, or: node bench/connections.mjs [live]
import { randomUUID } from 'node:crypto';
import { ConnectionManager, TimerManager } from '../dist/index.js';
import { compare, machine, timed, verdict } from './compare.mjs';
import { LIMITS, addressOf, socket } from './population.mjs';
import { TwinConnectionManager } from './twin.mjs';

const live = Number(process.argv[2] ?? 10_000);
const fill = (manager) => {
  for (let i = 0; i < live; i++)
    manager.addConnection(`live-${i}`, socket, addressOf(i), `user-${i}`);
  return manager;
};
const twin = fill(new TwinConnectionManager(LIMITS));
const ours = fill(new ConnectionManager(LIMITS, new TimerManager()));
const usesFfi = 'bun' in process.versions && process.env.PORTCULLIS_FFI === '1';
console.log(`${machine}, ${live} live${usesFfi ? ', hot calls by bun:ffi' : ''}`);

const connection = ours.connections.get('live-7');
// Each contestant has its own loop: a call through a shared harness would cost as much as the
// message.
const MESSAGES = 5e6;
compare('a message: twin.updateActivity(id) against connection.received(bytes)', [
  [
    'twin',
    () => {
      const start = performance.now();
      for (let i = 0; i < MESSAGES; i++) twin.updateActivity('live-7');
      return ((performance.now() - start) * 1e6) / MESSAGES;
    },
  ],
  [
    'portcullis',
    () => {
      const start = performance.now();
      for (let i = 0; i < MESSAGES; i++) connection.received(i & 1023);
      return ((performance.now() - start) * 1e6) / MESSAGES;
    },
  ],
]);

// Rates that are never met: what judging a message costs.
const RATE = { limit: 1e9, windowMs: 1 };
const judged = (name, limits) => {
  const manager = new ConnectionManager(limits, new TimerManager(), { name });
  const { connection } = manager.addConnection('rated', socket, '192.0.2.1', 'user');
  return () => {
    const start = performance.now();
    for (let i = 0; i < MESSAGES / 10; i++) connection.received(i & 1023);
    return ((performance.now() - start) * 1e7) / MESSAGES;
  };
};
compare('a message with rates', [
  ['messageRate', judged(undefined, { messageRate: RATE })],
  ['messageRatePerUser', judged(undefined, { messageRatePerUser: RATE })],
  [
    'messageRatePerUser, PerIp',
    judged(undefined, { messageRatePerUser: RATE, messageRatePerIp: RATE }),
  ],
  [
    'the same, shared by threads',
    judged('bench', { messageRatePerUser: RATE, messageRatePerIp: RATE }),
  ],
]);

// Fresh strings, as in a server: flat, and new to the contestant.
const BATCH = 1000;
const BATCHES = 10;
let batch = 0;
const isBun = 'bun' in process.versions;
const isMillion = live >= 1e6;
/** Returns the target of a host: Node, Bun, Bun by FFI. */
const targetOf = (...targets) => targets[usesFfi ? 2 : isBun ? 1 : 0];
/** Returns a contestant; `step(id, ip, user)` connects and disconnects a client. */
const cycle = (step) => () => {
  let spent = 0;
  for (let turn = 0; turn < BATCHES; turn++, batch++) {
    const ids = Array.from({ length: BATCH }, () => Buffer.from(randomUUID()).toString());
    const ips = ids.map((_, i) =>
      Buffer.from(`11.${batch & 255}.${(i >> 8) & 255}.${i & 255}`).toString(),
    );
    const users = ids.map((id) => Buffer.from(`u-${id}`).toString());
    // CPU time: on a busy machine, the ratio of wall times is noise.
    const start = process.cpuUsage();
    for (let i = 0; i < BATCH; i++) step(ids[i], ips[i], users[i]);
    const { user, system } = process.cpuUsage(start);
    spent += ((user + system) * 1000) / BATCH;
  }
  return spent / BATCHES;
};
// Many short turns: the median leaves out those in which the twin rebuilds its maps.
const LONG = { rounds: 51 };
const byId = (manager) =>
  cycle((id, ip, user) => {
    manager.addConnection(id, socket, ip, user);
    manager.removeConnection(id);
  });
const [twinById, oursById] = compare(
  'add + remove by id, with a user',
  [
    ['twin', byId(twin)],
    ['portcullis', byId(ours)],
  ],
  LONG,
);
verdict(
  'ratio',
  twinById / oursById,
  'x',
  isMillion
    ? targetOf({ least: 2.6, aim: 3.5 }, { least: 1.8, aim: 2.2 }, { least: 1.8, aim: 2.2 })
    : targetOf({ least: 2.2, aim: 2.5 }, { least: 1.4, aim: 1.8 }, { least: 1.6, aim: 1.8 }),
);
// As adapters connect: the seat is taken at the handshake, and the connection has no id unless one is asked for.
const metadata = { userAgent: 'bench' };
const [twinUnnamed, oursUnnamed] = compare(
  'connect + disconnect as adapters do, with a user',
  [
    [
      'twin',
      cycle((_, ip, user) => {
        const id = randomUUID();
        twin.addConnection(id, socket, ip, user);
        twin.removeConnection(id);
      }),
    ],
    [
      'portcullis',
      cycle((_, ip, user) =>
        ours.commitUnnamed(ours.reserve(ip, user), socket, metadata).connection.ended(),
      ),
    ],
  ],
  LONG,
);
verdict(
  'ratio',
  twinUnnamed / oursUnnamed,
  'x',
  targetOf({ least: 3, aim: 3.5 }, { least: 1.8, aim: 2.3 }, { least: 2, aim: 2.3 }),
);

const atCap = new ConnectionManager({ ...LIMITS, maxConnectionsPerIp: 1 }, new TimerManager());
atCap.addConnection('only', socket, '192.0.2.1', 'user');
let serial = 0;
compare('at the per-IP cap', [
  [
    'an admission (and its removal)',
    () =>
      timed(50_000, () => {
        const id = `a-${serial++}`;
        ours.addConnection(id, socket, '192.0.2.9', 'someone');
        ours.removeConnection(id);
      }),
  ],
  [
    'a refusal',
    () => timed(50_000, () => atCap.addConnection(`r-${serial++}`, socket, '192.0.2.1', 'someone')),
  ],
]);
process.exit();
