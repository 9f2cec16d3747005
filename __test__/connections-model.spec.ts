import { describe, expect, it } from 'vitest';
import { ConnectionManager, type Lease } from '../dist/index.js';
import { FakeSocket } from '../dist/testing.js';
import { inFull } from './fixtures/long.js';
import { randomOf } from './fixtures/random.js';

// Random admissions, takeovers and closings against a list of rows.

const LIMITS = {
  maxTotalConnections: 9,
  maxConnectionsPerIp: 3,
  maxConnectionsPerPrefix: 4,
  maxConnectionsPerUser: 2,
  maxAnonymousConnections: 4,
  maxAnonymousConnectionsPerIp: 2,
  maxUnknownIpConnections: 2,
  maxClosingPerIp: Infinity,
  maxClosingConnections: Infinity,
};
/** Two prefixes of two addresses each, two IPv4 addresses, and no address. */
const IPS = [
  '2001:db8::1',
  '2001:db8::2',
  '2001:db8:0:1::1',
  '2001:db8:0:1::2',
  '192.0.2.1',
  '192.0.2.2',
  '',
];
const USERS = ['ada', 'bob', 'eve', undefined];
const IDS = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l'];

interface Row {
  readonly ip: string;
  readonly user: string | undefined;
  /** The id of an open connection. */
  readonly id?: string;
  readonly lease?: Lease;
  /** True for a lease beyond the user's limit. */
  readonly claims?: boolean;
}

class Model {
  rows: Row[] = [];
  constructor(
    readonly closesOldest: boolean,
    readonly takesOver: boolean,
  ) {}

  /** Returns the code of the limit that refuses, `over` for a user who may replace a connection, or neither. */
  judge(ip: string, user: string | undefined, replaced?: Row): string | undefined {
    const rows = this.rows.filter((row) => row !== replaced);
    const count = (test: (row: Row) => boolean): number => rows.filter(test).length;
    const prefixOf = (address: string): number => Math.floor(IPS.indexOf(address) / 2);
    if (rows.length >= LIMITS.maxTotalConnections) return 'total_limit';
    if (
      ip.includes(':') &&
      count((row) => row.ip.includes(':') && prefixOf(row.ip) === prefixOf(ip)) >= 4
    )
      return 'prefix_limit';
    const ofIp = count((row) => row.ip === ip);
    if (ip === '') {
      if (ofIp >= LIMITS.maxUnknownIpConnections) return 'unknown_ip_limit';
    } else if (ofIp >= LIMITS.maxConnectionsPerIp) return 'ip_limit';
    if (user !== undefined) {
      if (count((row) => row.user === user) < LIMITS.maxConnectionsPerUser) return undefined;
      const claims = this.rows.filter((row) => row.claims === true && row.user === user).length;
      const mayClaim =
        this.closesOldest && replaced?.user !== user && claims < this.open(user).length;
      return mayClaim ? 'over' : 'user_limit';
    }
    if (count((row) => row.ip === ip && row.user === undefined) >= 2) return 'anonymous_ip_limit';
    return count((row) => row.user === undefined) >= 4 ? 'anonymous_limit' : undefined;
  }

  open(user: string | undefined): Row[] {
    return this.rows.filter((row) => row.id !== undefined && row.user === user);
  }

  find(id: string): Row | undefined {
    return this.rows.find((row) => row.id === id);
  }

  drop(row: Row | undefined): void {
    this.rows = this.rows.filter((other) => other !== row);
  }

  isOver(user: string | undefined): boolean {
    return this.rows.filter((row) => row.user === user).length > LIMITS.maxConnectionsPerUser;
  }
}

const ROUNDS = inFull(3000, 20_000);

describe.each([
  ['reject', 'reject'],
  ['closeOldest', 'reject'],
  ['reject', 'takeover'],
  ['closeOldest', 'takeover'],
] as const)('onFull: %s, onDuplicateId: %s', (onFull, onDuplicateId) => {
  it('agrees with a list', () => {
    using manager = new ConnectionManager(LIMITS, { onFull, onDuplicateId });
    const model = new Model(onFull === 'closeOldest', onDuplicateId === 'takeover');
    const random = randomOf(onFull.length * 31 + onDuplicateId.length);
    const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
    const seen = new Set<string>();
    for (let round = 0; round < ROUNDS; round++) {
      const [ip, user, id] = [pick(IPS), pick(USERS), pick(IDS)];
      const leases = model.rows.filter((row) => row.lease !== undefined);
      switch (random(5)) {
        case 0:
        case 1: {
          const present = model.find(id);
          const isTaken = present !== undefined && !model.takesOver;
          const code = isTaken ? 'duplicate_id' : model.judge(ip, user, present);
          const result = manager.addConnection(id, new FakeSocket(), ip, user);
          expect([round, result.code]).toEqual([round, code === 'over' ? undefined : code]);
          seen.add(code ?? 'admitted');
          if (!result.success) break;
          model.drop(present);
          const row = { ip, user, id };
          model.rows.push(row);
          if (code === 'over' && model.isOver(user)) model.drop(model.open(user)[0]);
          break;
        }
        case 2: {
          const code = model.judge(ip, user);
          const lease = manager.reserve(ip, user);
          expect([round, lease.success ? undefined : lease.code]).toEqual([
            round,
            code === 'over' ? undefined : code,
          ]);
          if (!lease.success) break;
          model.rows.push({ ip, user, lease, claims: code === 'over' });
          break;
        }
        case 3: {
          if (leases.length === 0) break;
          const row = pick(leases);
          if (random(3) === 0) {
            expect(manager.abort(row.lease!)).toBe(true);
            model.drop(row);
            break;
          }
          const present = model.find(id);
          const result = manager.commit(row.lease!, id, new FakeSocket());
          model.drop(row);
          if (present !== undefined && !model.takesOver) {
            expect(result.code).toBe('duplicate_id');
            break;
          }
          model.drop(present);
          const opened = { ip: row.ip, user: row.user, id };
          model.rows.push(opened);
          const isOver = row.claims === true && model.isOver(row.user);
          const oldest = model.open(row.user).find((other) => other !== opened);
          if (isOver && oldest === undefined) {
            expect(result.code).toBe('user_limit');
            model.drop(opened);
            break;
          }
          expect([round, result.code]).toEqual([round, undefined]);
          if (isOver) model.drop(oldest);
          seen.add(isOver ? 'claimed' : 'committed');
          break;
        }
        default: {
          const row = model.find(id);
          expect(manager.removeConnection(id)).toBe(row !== undefined);
          model.drop(row);
        }
      }
      const { totalConnections, anonymousConnections } = manager.snapshot();
      const expected = model.rows.filter((row) => row.user === undefined).length;
      expect([totalConnections, anonymousConnections]).toEqual([model.rows.length, expected]);
      expect([...manager.connections.keys()].toSorted()).toEqual(
        model.rows.flatMap((row) => row.id ?? []).toSorted(),
      );
    }
    // The walk has met what it is for.
    for (const code of [
      'total_limit',
      'prefix_limit',
      'ip_limit',
      'unknown_ip_limit',
      'anonymous_limit',
    ])
      expect(seen).toContain(code);
    if (onFull === 'closeOldest')
      expect([seen.has('over'), seen.has('claimed')]).toEqual([true, true]);
    else expect(seen).toContain('user_limit');
  });
});

// As adapters open connections: without an id, which is made when it is first read.
it('finds connections by the ids that were given and by those that were read, and by no others', () => {
  using manager = new ConnectionManager({});
  const random = randomOf(7);
  const pick = <T>(list: readonly T[]): T => list[random(list.length)]!;
  type Open = ReturnType<typeof manager.commitUnnamed>['connection'] & object;
  const open = new Set<Open>();
  const known = new Map<string, Open>();
  const gone: string[] = [];
  const read = (connection: Open): string => {
    known.set(connection.id, connection);
    return connection.id;
  };
  const lease = () => manager.reserve('192.0.2.1') as Lease;
  for (let round = 0; round < ROUNDS; round++) {
    const connection = pick([...open]);
    switch (connection === undefined ? random(2) : random(8)) {
      case 0: {
        open.add(manager.commitUnnamed(lease(), new FakeSocket(), '').connection!);
        break;
      }
      case 1: {
        const id = `given-${random(20)}`;
        const { code, connection: added } = manager.addConnection(id, new FakeSocket(), '');
        expect([round, code]).toEqual([round, known.has(id) ? 'duplicate_id' : undefined]);
        if (added !== undefined) {
          open.add(added);
          read(added);
        }
        break;
      }
      case 2: {
        expect(manager.addConnection(read(connection), new FakeSocket(), '').code).toBe(
          'duplicate_id',
        );
        break;
      }
      case 3: {
        if (random(20) > 0) break;
        const ids = [...manager.connections.keys()];
        for (const [id, other] of manager.connections) expect(read(other)).toBe(id);
        expect(new Set(ids)).toEqual(new Set([...open].map(read)));
        break;
      }
      case 4: {
        read(connection);
        break;
      }
      default: {
        const isKnown = [...known.values()].includes(connection);
        if (isKnown && random(2) === 0) expect(manager.removeConnection(connection.id)).toBe(true);
        else connection.ended();
        open.delete(connection);
        // Read afterwards, or made only now: an id that no live connection has.
        known.delete(connection.id);
        gone.push(connection.id);
      }
    }
    for (const [id, other] of known) expect(manager.connections.get(id)).toBe(other);
    for (const id of gone.slice(-3)) expect(manager.connections.has(id)).toBe(known.has(id));
    expect([manager.connections.size, manager.snapshot().totalConnections]).toEqual([
      open.size,
      open.size,
    ]);
  }
});

// As Elysia on Bun opens them: the host makes the id of a socket, and an application may know it first.
it('finds connections by the ids of their host, which are read by the first search that needs them', () => {
  using manager = new ConnectionManager({});
  const read: string[] = [];
  const open = (hostId: string | undefined) => {
    const socket = new FakeSocket();
    const idOf = (of: object): string | undefined => {
      expect(of).toBe(socket);
      read.push(String(hostId));
      return hostId;
    };
    const lease = manager.reserve('192.0.2.1') as Lease;
    return manager.commitUnnamed(lease, socket, '', idOf).connection!;
  };
  const [a, b, c] = [open('a'), open('b'), open(undefined)];
  // A search that finds needs none of the others.
  expect([a.id, manager.connections.get('a')]).toEqual(['a', a]);
  expect(read).toEqual(['a']);
  b.ended();
  expect(read).toEqual(['a']);
  const d = open('d');
  expect(manager.connections.get('d')).toBe(d);
  expect(read).toEqual(['a', 'undefined', 'd']);
  expect([manager.connections.get(c.id), manager.connections.has('b'), b.id]).toEqual([
    c,
    false,
    'b',
  ]);
  // From now on each is read as it opens.
  const e = open('e');
  expect(read).toEqual(['a', 'undefined', 'd', 'b', 'e']);
  expect(manager.connections.get('e')).toBe(e);
  expect(manager.addConnection('e', new FakeSocket(), '').code).toBe('duplicate_id');
  e.ended();
  expect(manager.connections.has('e')).toBe(false);
  expect(manager.connections.size).toBe(3);
});
