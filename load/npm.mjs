// A guard from npm packages, as a user would assemble it: rate-limiter-flexible for rates and for
// seats (points that are given back), fast-jwt with its cache, prom-client with its default
// metrics, a timer for each connection, one heartbeat for all.
import { createVerifier } from 'fast-jwt';
import { Counter, Gauge, Histogram, collectDefaultMetrics, register } from 'prom-client';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

/** The metrics of the guard. */
class Metrics {
  connections = new Gauge({ name: 'ws_connections', help: 'Open connections' });
  messages = new Counter({
    name: 'ws_messages_total',
    help: 'Messages',
    labelNames: ['direction'],
  });
  refused = new Counter({
    name: 'ws_refused_total',
    help: 'Refused upgrades',
    labelNames: ['reason'],
  });
  duration = new Histogram({
    name: 'ws_message_seconds',
    help: 'Time of a message',
    buckets: [0.0001, 0.001, 0.01, 0.1, 1],
  });
}

/** A guard, as the servers wire it. */
export class NpmGuard {
  #limits;
  #metrics = new Metrics();
  #live = new Set();
  #next = 0;
  #verify = createVerifier({
    key: SECRET,
    algorithms: ['HS256'],
    allowedIss: ISSUER,
    allowedAud: AUDIENCE,
    cache: true,
  });
  #connectRate;
  #messageRate;
  #seatsOfIp;
  #seatsOfUser;

  constructor(limits) {
    collectDefaultMetrics();
    this.#limits = limits;
    const rate = (points, duration, keyPrefix) =>
      new RateLimiterMemory({ points, duration, ...(keyPrefix && { keyPrefix }) });
    this.#connectRate = rate(limits.connectsPerMinute, 60);
    this.#messageRate = rate(limits.messagesPerSecond, 1);
    // Without a duration, points stay taken until they are given back.
    this.#seatsOfIp = rate(limits.perIp, 0, 'ip');
    this.#seatsOfUser = rate(limits.perUser, 0, 'user');
    setInterval(() => {
      for (const seat of this.#live) seat.socket?.ping();
    }, limits.pingMs);
  }

  seats() {
    return this.#live.size;
  }

  metrics() {
    return register.metrics();
  }

  #refuse(status, reason) {
    this.#metrics.refused.inc({ reason });
    return { status, text: reason };
  }

  async admit(ip, authorization) {
    let user;
    try {
      user = this.#verify((authorization ?? '').replace('Bearer ', '')).sub;
    } catch {
      return this.#refuse(401, 'Unauthorized');
    }
    if (this.#live.size >= this.#limits.total) return this.#refuse(503, 'Full');
    try {
      await this.#connectRate.consume(ip);
      await this.#seatsOfIp.consume(ip);
    } catch {
      // The limiter counts a refused consumption, too: give it back.
      await this.#seatsOfIp.reward(ip);
      return this.#refuse(429, 'Too many connections of this address');
    }
    try {
      await this.#seatsOfUser.consume(user);
    } catch {
      await this.#seatsOfUser.reward(user);
      await this.#seatsOfIp.reward(ip);
      return this.#refuse(429, 'Too many connections of this user');
    }
    const id = `connection-${++this.#next}`;
    const seat = { id, ip, user, socket: undefined, timer: undefined };
    this.#live.add(seat);
    this.#metrics.connections.inc();
    return seat;
  }

  open(seat, socket) {
    seat.socket = socket;
    const close = () => socket.close(1001, 'Connection timeout');
    seat.timer = setTimeout(close, this.#limits.idleMs);
  }

  leave(seat) {
    if (!this.#live.delete(seat)) return;
    clearTimeout(seat.timer);
    this.#metrics.connections.dec();
    void this.#seatsOfIp.reward(seat.ip);
    void this.#seatsOfUser.reward(seat.user);
  }

  /** Resolves to true if the application may have the message. */
  async received(seat) {
    seat.timer?.refresh();
    this.#metrics.messages.inc({ direction: 'in' });
    try {
      await this.#messageRate.consume(seat.id);
      return true;
    } catch {
      seat.socket?.close(1008, 'Message rate exceeded');
      return false;
    }
  }

  sent(_seat, _bytes, startMs) {
    this.#metrics.messages.inc({ direction: 'out' });
    this.#metrics.duration.observe((performance.now() - startMs) / 1000);
  }
}
