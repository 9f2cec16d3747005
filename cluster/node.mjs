// One process of the harness, on Node or Bun: clients of many users and addresses come and go, admitted
// through the package as it is published. Commands come on the standard input. It writes each seat into its log:
//   + time seat user address manager asked   after it was granted; the user is `-` for a client that has not logged in
//   - time seat                        before it is given back
//   < time seat user                   before a login as that user, which may give its user back
//   > time seat user                   after that login: its user from now on
//   ? time time user address manager code   a refusal: when it was asked for, and answered
//   r time time key                    a unit of a rate: when it was asked for, and answered
//   # time text                        a note
import { openSync, writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cluster, ConnectionManager } from '../dist/index.js';

const given = JSON.parse(process.env.CLUSTER_NODE);
const { name, log, url, seed, limits, options, users, addresses, target, pauseMs, rate } = given;
/** Users of the manager whose newcomers replace the oldest connection: few, so that most replace one. */
const TAKEN_USERS = 16;
const TAKEN_TARGET = 8;
/** Clients that wait at once, of a process that has so many operations to do. */
const WORKERS = 8;
/** Clients that stay, twice. */
const RACE_HELD = 120;
const file = openSync(log, 'a');
// The one clock that all processes of the host share. `performance.timeOrigin` is off by the time for which a process
// was not scheduled at its start: 40 ms were seen, and looked like seats over the limit.
const now = () => Date.now();
const write = (line) => writeSync(file, `${line}\n`);

let random = (seed * 2654435761) >>> 0 || 1;
const below = (n) => {
  random ^= random << 13;
  random ^= random >>> 17;
  random ^= random << 5;
  return (random >>> 0) % n;
};

// Behind Sentinels and in a Redis Cluster there is no proxy, and the options have `urls`.
const cluster = new Cluster({ ...(options.urls === undefined ? { url } : {}), ...options });
cluster.on('state', () => {
  const { state, managers } = cluster.snapshot();
  write(
    `# ${now()} ${managers.map((one) => `${one.name} ${one.state} ${one.problem ?? ''}`).join('; ')}`,
  );
  // The runner waits for this.
  process.stdout.write(`state ${state}\n`);
});
const limiter = cluster.limiter(rate);
let isQuiet = false;
let isIdle = given.isIdle === true;
let serial = 0;
let slowest = 0;
let done = 0;
const outcomes = {};
const count = (outcome) => void (outcomes[outcome] = (outcomes[outcome] ?? 0) + 1);

// The time of this turn of the loop, or shortly before: a seat that a newcomer replaces is given back before its socket
// is closed.
let turnAt = now();
setInterval(() => (turnAt = now()), 2);

/** The clients of one manager. */
class Clients {
  constructor(manager, onFull) {
    this.name = manager;
    this.manager = new ConnectionManager(limits, { name: manager, cluster, onFull });
    /** Seats that may end or log in. */
    this.held = [];
    this.open = new Set();
  }

  #end(seat, at) {
    write(`- ${at} ${seat.id}`);
    this.open.delete(seat);
    const index = this.held.indexOf(seat);
    if (index !== -1) this.held.splice(index, 1);
  }

  release(most) {
    for (let left = most; left > 0 && this.held.length > 0; left--) {
      const seat = this.held[below(this.held.length)];
      this.#end(seat, now());
      this.manager.release(seat.connection);
      done++;
    }
  }

  async admit(user, host) {
    const address = `${this.name[0]}${host}`;
    const asked = performance.now();
    const askedAt = now();
    const lease = await this.manager.admit(`192.0.2.${host}`, user);
    slowest = Math.max(slowest, performance.now() - asked);
    done++;
    const refused = ({ code }) => {
      write(`? ${askedAt} ${now()} ${user ?? '-'} ${address} ${this.name} ${code}`);
      count(code);
      return code;
    };
    if (!lease.success) return refused(lease);
    const seat = { id: `${name}.${++serial}`, user, address };
    const socket = {
      close: () => {
        if (this.open.has(seat)) this.#end(seat, turnAt);
        // As a host does it once the socket has closed.
        setImmediate(() => this.manager.release(seat.connection));
      },
    };
    const result = this.manager.commit(lease, seat.id, socket);
    if (!result.success) return refused(result);
    // The grant is written in the same turn in which it was learned.
    write(`+ ${now()} ${seat.id} ${user ?? '-'} ${address} ${this.name} ${askedAt}`);
    seat.connection = result.connection;
    this.held.push(seat);
    this.open.add(seat);
    count('granted');
    return 'granted';
  }

  /** Moves the seat of some client to a user. */
  async login(user) {
    if (this.held.length === 0) return;
    const [seat] = this.held.splice(below(this.held.length), 1);
    write(`< ${now()} ${seat.id} ${user}`);
    const outcome = await seat.connection.identify(user);
    done++;
    count(outcome.success ? 'moved' : `move ${outcome.code}`);
    if (!this.open.has(seat)) return;
    if (outcome.success) seat.user = user;
    write(`> ${now()} ${seat.id} ${seat.user ?? '-'}`);
    this.held.push(seat);
  }
}

const plain = new Clients('trial', 'reject');
const taken = new Clients('replace', 'closeOldest');

async function take() {
  const key = `k${below(3)}`;
  const asked = now();
  const { success } = await limiter.take(key);
  if (success) write(`r ${asked} ${now()} ${key}`);
}

/** Asks who is online: it may fail while the server is away, and in no other way. */
async function look() {
  const user = `u${below(users)}`;
  const calls = [
    () => cluster.count(user),
    () => cluster.isOnline(user),
    () => cluster.whereIs(user),
    () => cluster.nodes(),
    () => cluster.online({ limit: 50 }),
  ];
  try {
    await calls[below(calls.length)]();
    count('looked');
  } catch (error) {
    count(error.code === 'ERR_CLUSTER_UNREACHABLE' ? 'look unreachable' : `look ${error}`);
  }
}

async function work() {
  let isRefused = false;
  for (;;) {
    await sleep(isIdle ? 100 : pauseMs);
    if (isQuiet || isIdle) continue;
    // Clients stay while nobody is let in: what a process wrongly believes to be free is then passed at once.
    if (!isRefused) {
      plain.release(plain.held.length > target ? 12 : below(6));
      if (below(4) === 0) taken.release(taken.held.length > TAKEN_TARGET ? 3 : below(2));
    }
    const others = [take()];
    if (below(8) === 0) others.push(look());
    if (below(3) === 0) others.push(taken.admit(`t${below(TAKEN_USERS)}`, below(addresses)));
    // Some come without a user, and log in later; others log in anew, as another user.
    for (let left = below(3); left > 0; left--) others.push(plain.login(`u${below(users)}`));
    const codes = await Promise.all(
      Array.from({ length: 1 + below(16) }, () =>
        plain.admit(below(8) === 0 ? undefined : `u${below(users)}`, below(addresses)),
      ),
    );
    await Promise.all(others);
    isRefused = codes.includes('cluster_unreachable');
  }
}

/** Does so many operations, as fast as they are answered. */
async function race(operations) {
  const one = async () => {
    while (done < operations) {
      const dice = below(100);
      if (dice < 40) await plain.admit(dice < 5 ? undefined : `u${below(users)}`, below(addresses));
      else if (dice < 50) await plain.login(`u${below(users)}`);
      else if (dice < 56) await taken.admit(`t${below(TAKEN_USERS)}`, below(addresses));
      else if (dice < 57) await look();
      else if (dice < 62) taken.release(1);
      // So many stay that most limits are reached.
      else if (plain.held.length > below(RACE_HELD)) plain.release(1);
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, one));
  isQuiet = true;
  process.stdout.write(`done ${done}\n`);
}

/** Tells the users that are online, and the count of each that is asked for. */
async function presence(asked) {
  const online = [];
  const counts = {};
  try {
    let cursor;
    do {
      const page = await cluster.online({ cursor, limit: 500 });
      online.push(...page.users);
      cursor = page.cursor;
    } while (cursor !== undefined);
    for (const user of asked) counts[user] = await cluster.count(user);
  } catch (error) {
    return { problem: String(error) };
  }
  return { online, counts };
}

function report() {
  const seats = {};
  for (const { name: manager, open, manager: own } of [plain, taken]) {
    const byUser = {};
    for (const { user } of open) byUser[user ?? '-'] = (byUser[user ?? '-'] ?? 0) + 1;
    seats[manager] = { held: open.size, known: own.snapshot().totalConnections, byUser };
  }
  const stats = Object.fromEntries(cluster.snapshot().managers.map((one) => [one.name, one]));
  return { name, seats, outcomes, done, slowest: Math.round(slowest), stats };
}

let input = '';
// The harness has ended.
process.stdin.on('end', () => process.exit());
process.stdin.on('data', (data) => {
  input += data;
  for (let end; (end = input.indexOf('\n')) !== -1; input = input.slice(end + 1)) {
    const [command, rest] = input.slice(0, end).split(/ (.*)/s);
    if (command === 'quiet') isQuiet = true;
    if (command === 'busy') isIdle = false;
    if (command === 'idle') isIdle = true;
    if (command === 'race') void race(Number(rest));
    if (command === 'report') process.stdout.write(`report ${JSON.stringify(report())}\n`);
    if (command === 'presence')
      void presence(JSON.parse(rest)).then((answer) =>
        process.stdout.write(`presence ${JSON.stringify(answer)}\n`),
      );
  }
});
process.stdout.write(`started ${process.pid}\n`);
if (given.operations === undefined) void work();
