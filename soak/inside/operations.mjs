// Operations on managers of one name, and a naive model of their outcomes.

export const LIMITS = {
  maxTotalConnections: 14,
  maxConnectionsPerIp: 4,
  maxConnectionsPerUser: 3,
  maxConnectionsPerPrefix: 5,
  maxAnonymousConnections: 7,
  maxAnonymousConnectionsPerIp: 2,
  maxUnknownIpConnections: 2,
};
/**
 * Addresses as clients give them, with the canonical address and the prefix that the model counts.
 */
const ADDRESSES = [
  ['10.0.0.1', 'a'],
  ['::ffff:10.0.0.1', 'a'],
  ['[::ffff:a00:1]:443', 'a'],
  ['10.0.0.2', 'b'],
  ['10.0.0.3:1234', 'c'],
  ['2001:db8::1', 'd', 'prefix'],
  ['2001:db8:0:0::1%eth0', 'd', 'prefix'],
  ['2001:db8::2', 'e', 'prefix'],
  ['2001:db8:0:1::2', 'f', 'other prefix'],
  ['nonsense', 'unknown'],
  ['', 'unknown'],
];
const USERS = [undefined, undefined, 'ann', 'bob', 'cleo', 'ann\0', 'ünë'];
const ASKED = [
  'add',
  'add',
  'add',
  'reserve',
  'reserve',
  'commit',
  'commit',
  'abort',
  'release',
  'remove',
  'bind',
  'bind',
  'close',
];

let ids = 0;
const nextId = () => `c${ids++}`;
const newSocket = () => ({ close() {} });

/**
 * Draws an operation.
 * @param {import('../seeded-random.mjs').SeededRandom} random
 */
export function draw(random) {
  const [ip, address, prefix] = random.pick(ADDRESSES);
  return {
    kind: random.next() < 0.02 ? 'reopen' : random.pick(ASKED),
    manager: random.below(2),
    ip,
    address,
    prefix,
    user: random.pick(USERS),
    pick: random.next(),
  };
}

/**
 * A worker's managers and the seats that it holds: each with its manager, its lease or its
 * connection, and the keys that it counts for.
 */
export class Holder {
  #managers;
  #open;
  #held = [];

  /** @param open makes a manager */
  constructor(open) {
    this.#open = open;
    this.#managers = [open(), open()];
  }

  /** Returns seats, addresses, users and anonymous seats, as the first manager counts them. */
  counts() {
    const { totalConnections, connectionsByIp, connectionsByUser, anonymousConnections } =
      this.#managers[0].getStats();
    return [totalConnections, connectionsByIp, connectionsByUser, anonymousConnections];
  }

  /** Returns the seats in a form that can be sent to another thread. */
  seats() {
    return this.#held.map(({ at, lease, address, prefix, user }) => ({
      at,
      isLease: lease !== undefined,
      address,
      prefix,
      user,
    }));
  }

  /** Performs an operation; returns `'ok'`, a code, or `'nothing'` if no seat can take it. */
  perform(operation) {
    const { kind, pick } = operation;
    if (kind === 'add' || kind === 'reserve' || kind === 'reopen') return this[kind](operation);
    const isOnLease = kind === 'commit' || kind === 'abort';
    const seats = this.#held.filter(({ lease }) => (lease !== undefined) === isOnLease);
    const seat = seats[Math.floor(pick * seats.length)];
    return seat === undefined ? 'nothing' : this[kind](seat, operation);
  }

  add({ manager, ip, address, prefix, user }) {
    const { code, connection } = this.#managers[manager].addConnection(
      nextId(),
      newSocket(),
      ip,
      user,
    );
    if (code === undefined) this.#held.push({ at: manager, address, prefix, user, connection });
    return code ?? 'ok';
  }

  reserve({ manager, ip, address, prefix, user }) {
    const lease = this.#managers[manager].reserve(ip, user);
    if (lease.success) this.#held.push({ at: manager, address, prefix, user, lease });
    return lease.code ?? 'ok';
  }

  reopen({ manager }) {
    this.#managers[manager].cleanup();
    this.#managers[manager] = this.#open();
    this.#held = this.#held.filter(({ at }) => at !== manager);
    return 'ok';
  }

  commit(seat) {
    const { code, connection } = this.#managers[seat.at].commit(seat.lease, nextId(), newSocket());
    if (code !== undefined) return code;
    seat.connection = connection;
    seat.lease = undefined;
    return 'ok';
  }

  abort(seat) {
    return this.#giveBack(seat, () => this.#managers[seat.at].abort(seat.lease));
  }

  release(seat) {
    return this.#giveBack(seat, () => this.#managers[seat.at].release(seat.connection));
  }

  remove(seat) {
    return this.#giveBack(seat, () => this.#managers[seat.at].removeConnection(seat.connection.id));
  }

  close(seat) {
    seat.connection.close();
    seat.connection.close();
    this.#drop(seat);
    return 'ok';
  }

  bind(seat, { user }) {
    if (user === undefined) return 'nothing';
    const { code } = seat.connection.bindUser(user);
    if (code === undefined) seat.user = user;
    return code ?? 'ok';
  }

  /** Gives a seat back twice; only the first call may report a success. */
  #giveBack(seat, call) {
    const isDone = call() && !call();
    this.#drop(seat);
    return isDone ? 'ok' : 'not given back exactly once';
  }

  #drop(seat) {
    this.#held.splice(this.#held.indexOf(seat), 1);
  }
}

const count = (seats, test) => seats.filter(test).length;

/**
 * Returns the counts that the index must report for these seats: seats, addresses, users, anonymous
 * seats.
 */
export function countsOf(seats) {
  const distinct = (values) => new Set(values.filter((value) => value !== undefined)).size;
  return [
    seats.length,
    distinct(seats.map(({ address }) => address)),
    distinct(seats.map(({ user }) => user)),
    count(seats, ({ user }) => user === undefined),
  ];
}

/** A limit: its code, its use, and its maximum. */
const userLimit = (seats, user) => [
  'user_limit',
  count(seats, (seat) => seat.user === user),
  LIMITS.maxConnectionsPerUser,
];

/** Returns the code of the first limit that another seat would break, or `'ok'`. */
function admission(seats, { address, prefix, user }) {
  const here = seats.filter((seat) => seat.address === address);
  const isAnonymous = (seat) => seat.user === undefined;
  const limits = [
    ['total_limit', seats.length, LIMITS.maxTotalConnections],
    prefix !== undefined && [
      'prefix_limit',
      count(seats, (seat) => seat.prefix === prefix),
      LIMITS.maxConnectionsPerPrefix,
    ],
    address === 'unknown'
      ? ['unknown_ip_limit', here.length, LIMITS.maxUnknownIpConnections]
      : ['ip_limit', here.length, LIMITS.maxConnectionsPerIp],
    ...(user === undefined
      ? [
          ['anonymous_ip_limit', count(here, isAnonymous), LIMITS.maxAnonymousConnectionsPerIp],
          ['anonymous_limit', count(seats, isAnonymous), LIMITS.maxAnonymousConnections],
        ]
      : [userLimit(seats, user)]),
  ];
  return limits.find((limit) => limit && limit[1] >= limit[2])?.[0] ?? 'ok';
}

function binding(seats, live, { user, pick }) {
  const taken = live[Math.floor(pick * live.length)];
  if (taken === undefined || user === undefined) return 'nothing';
  const [code, used, most] = userLimit(seats, user);
  return taken.user !== user && used >= most ? code : 'ok';
}

/**
 * Returns the outcome of an operation.
 * @param seats of all workers together
 * @param own the seats of the worker that performs it
 */
export function expected(seats, own, operation) {
  const live = own.filter(({ isLease }) => !isLease);
  switch (operation.kind) {
    case 'add':
    case 'reserve':
      return admission(seats, operation);
    case 'bind':
      return binding(seats, live, operation);
    case 'reopen':
      return 'ok';
    case 'commit':
    case 'abort':
      return own.length > live.length ? 'ok' : 'nothing';
    default:
      return live.length > 0 ? 'ok' : 'nothing';
  }
}

/** Returns the first limit that these seats exceed. */
export function broken(seats) {
  const most = (key) => {
    const counts = new Map();
    for (const seat of seats)
      if (seat[key] !== undefined) counts.set(seat[key], (counts.get(seat[key]) ?? 0) + 1);
    return counts;
  };
  const over = (counts, limit) => [...counts].find(([, number]) => number > limit)?.[0];
  if (seats.length > LIMITS.maxTotalConnections) return 'maxTotalConnections';
  return (
    over(most('address'), LIMITS.maxConnectionsPerIp) ??
    over(most('prefix'), LIMITS.maxConnectionsPerPrefix) ??
    over(most('user'), LIMITS.maxConnectionsPerUser)
  );
}
