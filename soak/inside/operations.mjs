// What the managers of one name are asked to do, and what a naive model says of it.

export const LIMITS = {
  maxTotalConnections: 14,
  maxConnectionsPerIp: 4,
  maxConnectionsPerUser: 3,
  maxConnectionsPerPrefix: 5,
  maxAnonymousConnections: 7,
  maxAnonymousConnectionsPerIp: 2,
  maxUnknownIpConnections: 2,
};
/** As they are given, and what they are. */
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

/** @param {import('../dice.mjs').Dice} dice */
export function draw(dice) {
  const [ip, address, prefix] = dice.pick(ADDRESSES);
  return {
    kind: dice.next() < 0.02 ? 'reopen' : dice.pick(ASKED),
    manager: dice.below(2),
    ip,
    address,
    prefix,
    user: dice.pick(USERS),
    pick: dice.next(),
  };
}

/**
 * Does it.
 * @param open makes a manager
 * @param held what this worker holds: seats with their manager, and what they were taken for
 * @returns 'ok', a code, or 'nothing' where there was nothing to do it to
 */
export function operate(
  managers,
  open,
  held,
  { kind, manager: at, ip, address, prefix, user, pick },
) {
  const manager = managers[at];
  const socket = { close() {} };
  const leases = held.filter(({ lease }) => lease !== undefined);
  const live = held.filter(({ connection }) => connection !== undefined);
  const of = (list) => list[Math.floor(pick * list.length)];
  const drop = (seat) => held.splice(held.indexOf(seat), 1);
  const seat = { at, address, prefix, user };
  switch (kind) {
    case 'add': {
      const { code, connection } = manager.addConnection(`c${ids++}`, socket, ip, user);
      if (code === undefined) held.push({ ...seat, connection });
      return code ?? 'ok';
    }
    case 'reserve': {
      const lease = manager.reserve(ip, user);
      if (lease.success) held.push({ ...seat, lease });
      return lease.code ?? 'ok';
    }
    case 'commit': {
      const taken = of(leases);
      if (taken === undefined) return 'nothing';
      const { code, connection } = managers[taken.at].commit(taken.lease, `c${ids++}`, socket);
      if (code !== undefined) return code;
      taken.connection = connection;
      taken.lease = undefined;
      return 'ok';
    }
    case 'abort': {
      const taken = of(leases);
      if (taken === undefined) return 'nothing';
      const isDone =
        managers[taken.at].abort(taken.lease) && !managers[taken.at].abort(taken.lease);
      drop(taken);
      return isDone ? 'ok' : 'not aborted';
    }
    case 'release':
    case 'remove': {
      const taken = of(live);
      if (taken === undefined) return 'nothing';
      const { connection } = taken;
      const once = () =>
        kind === 'release'
          ? managers[taken.at].release(connection)
          : managers[taken.at].removeConnection(connection.id);
      const isDone = once() && !once();
      drop(taken);
      return isDone ? 'ok' : 'not released';
    }
    case 'close': {
      const taken = of(live);
      if (taken === undefined) return 'nothing';
      taken.connection.close();
      taken.connection.close();
      drop(taken);
      return 'ok';
    }
    case 'bind': {
      const taken = of(live);
      if (taken === undefined || user === undefined) return 'nothing';
      const { code } = taken.connection.bindUser(user);
      if (code === undefined) taken.user = user;
      return code ?? 'ok';
    }
    case 'reopen':
      manager.close();
      managers[at] = open();
      for (const taken of held.filter((one) => one.at === at)) drop(taken);
      return 'ok';
    default:
      throw new Error(`no operation ${kind}`);
  }
}

/** What a member tells of its seats. */
export const told = (held) =>
  held.map(({ at, lease, address, prefix, user }) => ({
    at,
    isLease: lease !== undefined,
    address,
    prefix,
    user,
  }));

const count = (seats, test) => seats.filter(test).length;

/** What the index is to say of these seats. */
export function countsOf(seats) {
  const distinct = (values) => new Set(values.filter((value) => value !== undefined)).size;
  return [
    seats.length,
    distinct(seats.map(({ address }) => address)),
    distinct(seats.map(({ user }) => user)),
    count(seats, ({ user }) => user === undefined),
  ];
}

/** What is to come of `operation` if all workers together hold `seats`; `own` are those of the worker that is asked. */
export function expected(seats, own, { kind, address, prefix, user, pick }) {
  switch (kind) {
    case 'add':
    case 'reserve': {
      const here = seats.filter((seat) => seat.address === address);
      if (seats.length >= LIMITS.maxTotalConnections) return 'total_limit';
      if (
        prefix !== undefined &&
        count(seats, (seat) => seat.prefix === prefix) >= LIMITS.maxConnectionsPerPrefix
      )
        return 'prefix_limit';
      if (address === 'unknown' && here.length >= LIMITS.maxUnknownIpConnections)
        return 'unknown_ip_limit';
      if (address !== 'unknown' && here.length >= LIMITS.maxConnectionsPerIp) return 'ip_limit';
      if (user !== undefined)
        return count(seats, (seat) => seat.user === user) >= LIMITS.maxConnectionsPerUser
          ? 'user_limit'
          : 'ok';
      if (count(here, (seat) => seat.user === undefined) >= LIMITS.maxAnonymousConnectionsPerIp)
        return 'anonymous_ip_limit';
      return count(seats, (seat) => seat.user === undefined) >= LIMITS.maxAnonymousConnections
        ? 'anonymous_limit'
        : 'ok';
    }
    case 'bind': {
      const live = own.filter(({ isLease }) => !isLease);
      const taken = live[Math.floor(pick * live.length)];
      if (taken === undefined || user === undefined) return 'nothing';
      return taken.user !== user &&
        count(seats, (seat) => seat.user === user) >= LIMITS.maxConnectionsPerUser
        ? 'user_limit'
        : 'ok';
    }
    case 'reopen':
      return 'ok';
    case 'commit':
    case 'abort':
      return own.some(({ isLease }) => isLease) ? 'ok' : 'nothing';
    default:
      return own.some(({ isLease }) => !isLease) ? 'ok' : 'nothing';
  }
}

/** The first limit that these seats break. */
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
