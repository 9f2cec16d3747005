// Replays the logs of all processes (`node.mjs` tells their form): how many seats were open at each moment, and which
// limit was passed; and who was refused although no limit was reached.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Codes of refusals, and the limit that has to be reached for each. */
const CAUSES = {
  total_limit: 'total',
  user_limit: 'user',
  ip_limit: 'address',
  anonymous_limit: 'anonymous',
};
/** Time within which the server knows that a seat was given back, on a busy machine, ms. */
const GIVEN_BACK_MS = 250;
/** Time for which a process repeats a refusal without asking, and a little more, ms. */
const REPEATED_MS = 120;

/** The keys under which a seat counts: the limit's name, and whose it is. */
const keysOf = ({ user, address, manager }) => [
  `total ${manager}`,
  `address ${address}`,
  ...(user === undefined ? [] : [user === '-' ? `anonymous ${manager}` : `user ${user}`]),
];
const kindOf = (key) => key.slice(0, key.indexOf(' '));
const nameOf = (user, manager) => (user === '-' ? `anonymous ${manager}` : `user ${user}`);

/** Reads the logs. */
class Logs {
  /** Changes of counts: time, change and key. */
  changes = [];
  /** Times between which a key may have counted once more. */
  spans = [];
  refusals = [];
  notes = [];
  units = [];
  grants = 0;
  moves = 0;

  /** @param endedAt time at which the process was killed */
  read(name, text, endedAt) {
    this.open = new Map();
    for (const line of text.split('\n')) {
      const [sign, at, ...rest] = line.split(' ');
      const act = { '+': 'granted', '-': 'ended', '<': 'leaves', '>': 'moved', '?': 'refused' }[
        sign
      ];
      if (act !== undefined) this[act](Number(at), ...rest);
      else if (sign === 'r') this.units.push([Number(at), Number(rest[0]), rest[1]]);
      else if (sign === '#') this.notes.push([Number(at), name, rest.join(' ')]);
    }
    if (endedAt !== undefined) for (const id of this.open.keys()) this.ended(endedAt, id);
    for (const seat of this.open.values())
      for (const key of keysOf(seat)) this.spans.push([seat.since, Infinity, key]);
  }

  granted(at, id, user, address, manager, asked) {
    this.grants++;
    const seat = { user, address, manager, since: Number(asked) };
    this.open.set(id, seat);
    for (const key of keysOf(seat)) this.changes.push([at, 1, key]);
  }

  ended(at, id) {
    const seat = this.open.get(id);
    if (seat === undefined) return;
    this.open.delete(id);
    for (const key of keysOf(seat)) {
      this.changes.push([at, -1, key]);
      this.spans.push([seat.since, at, key]);
    }
    if (seat.moving !== undefined)
      this.spans.push(...seat.moving.map((key) => [seat.since, at, key]));
  }

  leaves(at, id, user) {
    const seat = this.open.get(id);
    const before = nameOf(seat.user, seat.manager);
    this.changes.push([at, -1, before]);
    // Both users count until the answer.
    seat.moving = [before, `user ${user}`];
    seat.user = undefined;
  }

  moved(at, id, user) {
    const seat = this.open.get(id);
    for (const key of seat.moving) this.spans.push([seat.since, at, key]);
    seat.moving = undefined;
    seat.user = user;
    this.moves++;
    this.changes.push([at, 1, nameOf(user, seat.manager)]);
  }

  refused(asked, answered, user, address, manager, code) {
    const seat = { user, address, manager };
    for (const key of keysOf(seat)) this.spans.push([asked, Number(answered), key]);
    this.refusals.push([asked, Number(answered), code, keysOf(seat)]);
  }
}

/**
 * Replays the logs.
 * @param folder of the logs
 * @param ended time at which each killed process ended
 * @param limits `total`, `user`, `address`, `anonymous`
 * @param rate `limit`, `windowMs` and `burst` of the limiter
 */
export function replay(folder, ended, limits, rate) {
  const logs = new Logs();
  for (const file of readdirSync(folder)) {
    const name = file.replace('.log', '');
    logs.read(name, readFileSync(join(folder, file), 'utf8'), ended.get(name));
  }
  // Of one moment, seats that are given back come first.
  logs.changes.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const counts = new Map();
  const over = Object.fromEntries(Object.keys(limits).map((kind) => [kind, 0]));
  const passed = new Set();
  let most = 0;
  let overMs = 0;
  let since;
  let firstAt;
  for (const [at, change, key] of logs.changes) {
    const count = (counts.get(key) ?? 0) + change;
    counts.set(key, count);
    const kind = kindOf(key);
    if (kind === 'total') most = Math.max(most, count);
    if (count > limits[kind]) {
      over[kind] = Math.max(over[kind], count - limits[kind]);
      passed.add(key);
    } else passed.delete(key);
    if (passed.size > 0) {
      since ??= at;
      firstAt ??= at;
    } else if (since !== undefined) {
      overMs += at - since;
      since = undefined;
    }
  }
  return {
    units: logs.units.length,
    overRate: overRate(logs.units, rate),
    grants: logs.grants,
    moves: logs.moves,
    most,
    over,
    overMs: Math.round(overMs),
    isOverAtEnd: since !== undefined,
    firstAt,
    notes: logs.notes,
    refusals: logs.refusals.length,
    causeless: () => causeless(logs, limits),
  };
}

/** Returns the place of the last step that is not after a time, or -1. */
function placeOf(steps, time) {
  let from = 0;
  let to = steps.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    if (steps[middle][0] <= time) from = middle + 1;
    else to = middle;
  }
  return from - 1;
}

/** Returns the first refusal for a limit that cannot have been reached, and how many there are. */
function causeless({ spans, refusals }, limits) {
  const byKey = new Map();
  const note = (at, change, key) => {
    if (!byKey.has(key)) byKey.set(key, []);
    byKey.get(key).push([at, change]);
  };
  for (const [from, to, key] of spans) {
    note(from, 1, key);
    note(to + GIVEN_BACK_MS, -1, key);
  }
  for (const steps of byKey.values()) {
    steps.sort((a, b) => a[0] - b[0] || b[1] - a[1]);
    let count = 0;
    for (const step of steps) step[1] = count += step[1];
  }
  const found = refusals.filter(([asked, answered, code, keys]) => {
    const key = keys.find((one) => kindOf(one) === CAUSES[code]);
    if (key === undefined) return false;
    const steps = byKey.get(key);
    for (let at = Math.max(0, placeOf(steps, asked - REPEATED_MS)); at < steps.length; at++) {
      const [time, count] = steps[at];
      if (time > answered) break;
      // From when it was asked, the refused one is among those that were counted.
      if (count - (time >= asked ? 1 : 0) >= limits[kindOf(key)]) return false;
    }
    return true;
  });
  return { count: found.length, first: found[0] };
}

/**
 * Returns by how many units a rate was passed at most, in any stretch of time: a unit counts in it if it was asked for
 * and answered in it.
 * @param units times of question and answer, and key
 */
export function overRate(units, { limit, windowMs, burst = limit }) {
  const byKey = new Map();
  for (const [asked, answered, key] of units) {
    if (!byKey.has(key)) byKey.set(key, []);
    byKey.get(key).push([asked, answered]);
  }
  let most = 0;
  for (const list of byKey.values()) {
    list.sort((a, b) => a[1] - b[1]);
    for (const [from] of list) {
      let count = 0;
      for (const [asked, answered] of list) {
        if (asked < from) continue;
        count++;
        // The clocks' resolution, and the unit that the end of the stretch falls on.
        const allowed = burst + ((answered - from + 2) * limit) / windowMs + 1;
        most = Math.max(most, count - Math.floor(allowed));
      }
    }
  }
  return most;
}
