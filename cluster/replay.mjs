// Replays the logs of all processes: how many seats were open at each moment, and which limit was passed.
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * @param folder of the logs
 * @param ended time at which each killed process ended
 * @param limits `total`, `user`, `address`
 * @param rate `limit`, `windowMs` and `burst` of the limiter
 */
export function replay(folder, ended, limits, rate) {
  const events = [];
  const notes = [];
  const units = [];
  let grants = 0;
  for (const file of readdirSync(folder)) {
    const name = file.replace('.log', '');
    const open = [];
    for (const line of readFileSync(join(folder, file), 'utf8').split('\n')) {
      const [sign, at, user, address] = line.split(' ');
      if (sign === '+') {
        grants++;
        open.push([user, address]);
        events.push([Number(at), 1, user, address]);
      } else if (sign === '-') {
        const index = open.findIndex((seat) => seat[0] === user && seat[1] === address);
        if (index !== -1) open.splice(index, 1);
        events.push([Number(at), -1, user, address]);
      } else if (sign === 'r') units.push([Number(at), Number(user), address]);
      else if (sign === '#') notes.push([Number(at), name, line.split(' ').slice(2).join(' ')]);
    }
    const at = ended.get(name);
    if (at !== undefined) for (const [user, address] of open) events.push([at, -1, user, address]);
  }
  // Of one moment, seats that are given back come first.
  events.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const counts = new Map();
  const over = { total: 0, user: 0, address: 0 };
  const passed = new Set();
  let total = 0;
  let most = 0;
  let overMs = 0;
  let since;
  let firstAt;
  for (const [at, change, user, address] of events) {
    total += change;
    most = Math.max(most, total);
    over.total = Math.max(over.total, total - limits.total);
    for (const [key, limit, kind] of [
      [user, limits.user, 'user'],
      [address, limits.address, 'address'],
    ]) {
      const count = (counts.get(key) ?? 0) + change;
      counts.set(key, count);
      if (count > limit) {
        over[kind] = Math.max(over[kind], count - limit);
        passed.add(key);
      } else passed.delete(key);
    }
    const isOver = passed.size > 0 || total > limits.total;
    if (isOver) {
      since ??= at;
      firstAt ??= at;
    } else if (since !== undefined) {
      overMs += at - since;
      since = undefined;
    }
  }
  return {
    units: units.length,
    overRate: overRate(units, rate),
    grants,
    most,
    held: total,
    over,
    isOver: over.total > 0 || over.user > 0 || over.address > 0,
    overMs: Math.round(overMs),
    isOverAtEnd: since !== undefined,
    firstAt,
    notes,
  };
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
