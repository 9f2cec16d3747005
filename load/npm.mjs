// What a user would assemble from npm: rate-limiter-flexible for rates and for seats (points that are given back),
// fast-jwt with its cache, prom-client with its default metrics, a timer for each connection, one heartbeat for all.
import { createVerifier } from 'fast-jwt';
import { Counter, Gauge, Histogram, collectDefaultMetrics, register } from 'prom-client';
import { RateLimiterMemory } from 'rate-limiter-flexible';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

/** A guard, as the servers wire it. */
export function npmGuard(limits) {
  collectDefaultMetrics();
  const connections = new Gauge({ name: 'ws_connections', help: 'Open connections' });
  const messages = new Counter({
    name: 'ws_messages_total',
    help: 'Messages',
    labelNames: ['direction'],
  });
  const refused = new Counter({
    name: 'ws_refused_total',
    help: 'Refused upgrades',
    labelNames: ['reason'],
  });
  const duration = new Histogram({
    name: 'ws_message_seconds',
    help: 'Time of a message',
    buckets: [0.0001, 0.001, 0.01, 0.1, 1],
  });
  const verify = createVerifier({
    key: SECRET,
    algorithms: ['HS256'],
    allowedIss: ISSUER,
    allowedAud: AUDIENCE,
    cache: true,
  });
  const connectRate = new RateLimiterMemory({ points: limits.connectsPerMinute, duration: 60 });
  const messageRate = new RateLimiterMemory({ points: limits.messagesPerSecond, duration: 1 });
  // Without a duration points stay taken until they are given back.
  const seatsOfIp = new RateLimiterMemory({ points: limits.perIp, duration: 0, keyPrefix: 'ip' });
  const seatsOfUser = new RateLimiterMemory({
    points: limits.perUser,
    duration: 0,
    keyPrefix: 'user',
  });
  const live = new Set();
  let next = 0;

  setInterval(() => {
    for (const seat of live) seat.socket?.ping();
  }, limits.pingMs);
  const refuse = (status, reason) => {
    refused.inc({ reason });
    return { status, text: reason };
  };

  return {
    seats: () => live.size,
    metrics: () => register.metrics(),
    async admit(ip, authorization) {
      let user;
      try {
        user = verify((authorization ?? '').replace('Bearer ', '')).sub;
      } catch {
        return refuse(401, 'Unauthorized');
      }
      if (live.size >= limits.total) return refuse(503, 'Full');
      try {
        await connectRate.consume(ip);
        await seatsOfIp.consume(ip);
      } catch {
        // A consumption that is refused is counted all the same: it has to be given back, too.
        await seatsOfIp.reward(ip);
        return refuse(429, 'Too many connections of this address');
      }
      try {
        await seatsOfUser.consume(user);
      } catch {
        await seatsOfUser.reward(user);
        await seatsOfIp.reward(ip);
        return refuse(429, 'Too many connections of this user');
      }
      const seat = { id: `connection-${++next}`, ip, user, socket: undefined, timer: undefined };
      live.add(seat);
      connections.inc();
      return seat;
    },
    open(seat, socket) {
      seat.socket = socket;
      seat.timer = setTimeout(() => socket.close(1001, 'Connection timeout'), limits.idleMs);
    },
    leave(seat) {
      if (!live.delete(seat)) return;
      clearTimeout(seat.timer);
      connections.dec();
      void seatsOfIp.reward(seat.ip);
      void seatsOfUser.reward(seat.user);
    },
    /** Whether the application may have it. */
    async received(seat) {
      seat.timer?.refresh();
      messages.inc({ direction: 'in' });
      try {
        await messageRate.consume(seat.id);
        return true;
      } catch {
        seat.socket?.close(1008, 'Message rate exceeded');
        return false;
      }
    },
    sent(_seat, _bytes, startMs) {
      messages.inc({ direction: 'out' });
      duration.observe((performance.now() - startMs) / 1000);
    },
  };
}
