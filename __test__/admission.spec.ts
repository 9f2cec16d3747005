import { describe, expect, it } from 'vitest';
import {
  Admission,
  ADMISSION_TABLE,
  type AdmissionAction,
  type AdmissionEvent,
  type AdmissionState,
} from '../dist/guard/admission.js';
import { ConnectionManager, type Lease, TimerManager } from '../dist/index.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';

// Every event in every state, as `ADMISSION_TABLE` says it: generated from the table.

const IP = '192.0.2.1';
const LEASE_MS = 10_000;
const IDLE_MS = 60_000;
const CLOSE_MS = 5000;
const DENIAL = { code: 'unauthorized', reason: 'denied', retryAfterMs: 0 } as const;

/** An admission on a manager of its own, and what can happen to it. */
class World {
  readonly clock = new ManualClock();
  readonly timers = new TimerManager({ clock: this.clock });
  readonly manager = new ConnectionManager(
    {
      maxConnectionsPerIp: 1,
      maxConnectionsPerUser: 1,
      maxClosingPerIp: 2,
      connectionTimeoutMs: IDLE_MS,
    },
    this.timers,
    { leaseTimeoutMs: LEASE_MS, closeTimeoutMs: CLOSE_MS },
  );
  readonly admission = new Admission(this.manager, 'http', IP, '');
  readonly socket = new FakeSocket();
  readonly second = new FakeSocket();

  get seats(): number {
    return this.manager.isOpen ? this.manager.snapshot().totalConnections : 0;
  }

  /** Answers for the cluster. */
  confirm: ((lease: Lease) => void) | undefined;
  confirmed: Promise<void> | undefined;

  /** Makes the manager ask a cluster, whose answer is ours. */
  #join(): void {
    Object.defineProperties(this.manager, {
      isClustered: { value: true },
      confirm: {
        value: (lease: Lease) =>
          new Promise((resolve) => {
            this.confirm = () => resolve(lease);
          }),
      },
    });
  }

  readonly to: Record<AdmissionState, () => void> = {
    arrived: () => undefined,
    seated: () => this.admission.seat(),
    asked: () => {
      this.#join();
      this.to.seated();
      this.admission.identify('ada');
      this.confirmed = this.admission.confirmed(undefined);
    },
    granted: () => {
      this.to.seated();
      this.admission.identify('ada');
    },
    open: () => {
      this.to.granted();
      this.admission.open('id', this.socket);
    },
    closing: () => {
      this.to.open();
      this.manager.connections.get('id')?.close(1000);
    },
    gone: () => {
      this.to.granted();
      this.admission.end('reset');
    },
  };

  get #connection() {
    return this.manager.connections.get('id');
  }

  readonly events: Record<AdmissionEvent, (state: AdmissionState) => void | Promise<void>> = {
    upgrade: () => this.admission.seat(),
    identity: () => this.admission.identify('ada'),
    confirmation: () => {
      this.confirm?.({} as Lease);
      return this.confirmed ?? this.admission.confirmed(undefined);
    },
    refusal: () => this.admission.deny(DENIAL),
    timeout: (state) => {
      // A guard has timers of its own for what holds no lease.
      if (state === 'arrived' || state === 'gone') this.admission.end('timeout');
      else if (state === 'closing') this.clock.advance(CLOSE_MS);
      else if (state !== 'open') this.clock.advance(3 * LEASE_MS);
      // By single steps: the closing has a timeout of its own.
      else while (this.socket.closed.length === 0) this.clock.advance(1000);
    },
    reset: (state) => this.#ends('reset', state),
    open: (state) => {
      const isFirst = state !== 'open' && state !== 'closing';
      this.admission.open('id', isFirst ? this.socket : this.second);
    },
    close: (state) => {
      if (state === 'open') this.#connection?.close(1000);
      else if (state !== 'closing') this.admission.end('close');
    },
    gone: (state) => this.#ends('gone', state),
    reload: () => {
      // The next guard has a manager of its own, which must not take this one's seats.
      using other = new ConnectionManager({});
      const connection = this.#connection;
      if (connection !== undefined) expect(other.release(connection as never)).toBe(false);
    },
    shutdown: (state) => {
      this.manager.close();
      // Nothing is held that could be told: the next step is refused.
      if (state === 'arrived') this.admission.seat();
    },
  };

  #ends(event: 'reset' | 'gone', state: AdmissionState): void {
    if (state !== 'open' && state !== 'closing') return void this.admission.end(event);
    this.socket.readyState = 3;
    this.opened?.ended();
    return undefined;
  }
  /** The connection, once it was open. */
  opened: { ended(): void } | undefined;
}

const AFTER: Record<AdmissionAction, (before: AdmissionState) => AdmissionState> = {
  seat: () => 'seated',
  grant: () => 'granted',
  confirm: () => 'granted',
  giveBack: () => 'gone',
  commit: () => 'open',
  // A socket that may not open is closing; beside an open one, that one stays as it is.
  reject: (before) => (before === 'open' || before === 'closing' ? before : 'closing'),
  close: () => 'closing',
  release: () => 'gone',
  terminate: () => 'gone',
  forget: () => 'gone',
  leave: () => 'gone',
  stay: (before) => before,
};
const SEATS: Record<AdmissionState, number> = {
  arrived: 0,
  seated: 1,
  asked: 1,
  granted: 1,
  open: 1,
  closing: 0,
  gone: 0,
};

const rows = Object.entries(ADMISSION_TABLE).flatMap(([state, events]) =>
  Object.entries(events).map(([event, action]) => [state, event, action] as const),
) as [AdmissionState, AdmissionEvent, AdmissionAction][];

describe('an admission', () => {
  it('has an effect of every event in every state', () => {
    const states = Object.keys(ADMISSION_TABLE);
    expect(states).toHaveLength(7);
    expect(rows).toHaveLength(77);
    expect(new Set(rows.map(([, , action]) => action))).toEqual(new Set(Object.keys(AFTER)));
  });

  it.each(rows)('in state %s, at %s: %s', async (state, event, action) => {
    const world = new World();
    world.to[state]();
    if (state === 'open') world.opened = world.manager.connections.get('id');
    if (state === 'closing') {
      expect(world.socket.closed).toHaveLength(1);
      world.opened = { ended: () => world.manager.release(closed) };
    }
    const closed = world.admission.connection!;
    expect([world.admission.state, world.seats]).toEqual([state, SEATS[state]]);
    await world.events[event](state);
    const after = AFTER[action](state);
    const seats = after === 'closing' ? 0 : SEATS[after];
    const isLeased = state === 'seated' || state === 'asked' || state === 'granted';
    if (event === 'timeout' && isLeased) {
      // The lease has expired: the manager has the seat back, and the admission cannot open.
      expect(world.seats).toBe(0);
      world.admission.open('id', world.socket);
      expect(world.manager.connections.size).toBe(0);
      return;
    }
    if (event === 'shutdown' && isLeased) {
      expect(world.admission.open('id', world.socket)).toBeUndefined();
      expect(world.socket.closed).toHaveLength(1);
      return;
    }
    expect([world.admission.state, world.seats]).toEqual([after, seats]);
    if (action === 'reject') {
      const { closed: codes } =
        state === 'open' || state === 'closing' ? world.second : world.socket;
      expect(codes.map(({ code }) => code)).toEqual([1008]);
    }
    if (action === 'terminate') expect(world.socket.terminated).toBe(true);
    // No seat is left, whatever has happened.
    if (after !== 'gone') world.manager.close();
    expect(world.seats).toBe(0);
  });
});
