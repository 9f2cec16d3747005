// The same design in plain JavaScript, without a core in Rust: its classes, wired as portcullis is.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { TwinConnectionManager } from '../bench/twin.mjs';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

class TimerManager {
  intervals = new Set();
  setInterval(callback, ms) {
    const interval = setInterval(callback, ms);
    this.intervals.add(interval);
    return interval;
  }
}

class ResourceMonitor {
  metrics = { memoryUsage: 0 };
  constructor(limits, timers) {
    timers.setInterval(() => {
      this.metrics.memoryUsage = process.memoryUsage().heapUsed / 1024 / 1024;
      const percent = (this.metrics.memoryUsage / limits.maxHeapSize) * 100;
      if (percent > limits.criticalThreshold)
        console.error('CRITICAL: Memory usage exceeds threshold', percent);
    }, 5000);
  }
}

function validateToken(token) {
  if (!token) throw new Error('Authentication token is required');
  const clean = token.replace(/^Bearer\s+/i, '');
  if (!/^[A-Za-z0-9\-_]+\.[A-Za-z0-9\-_]+\.[A-Za-z0-9\-_]+$/.test(clean))
    throw new Error('Invalid token format');
  if (clean.length > 2048) throw new Error('Token too long');
  return clean;
}

/**
 * Returns the subject of a token. The design itself checks only the token's format; limits per user
 * need the subject, so this verifies the signature and the claims, too.
 */
function userOf(token) {
  const [header, payload, signature] = validateToken(token).split('.');
  const wanted = createHmac('sha256', SECRET).update(`${header}.${payload}`).digest();
  const given = Buffer.from(signature, 'base64url');
  if (given.length !== wanted.length || !timingSafeEqual(given, wanted))
    throw new Error('Invalid signature');
  if (JSON.parse(Buffer.from(header, 'base64url')).alg !== 'HS256')
    throw new Error('Invalid algorithm');
  const claims = JSON.parse(Buffer.from(payload, 'base64url'));
  if (claims.iss !== ISSUER || claims.aud !== AUDIENCE || !(claims.exp > Date.now() / 1000))
    throw new Error('Invalid claims');
  return claims.sub;
}

/** Checks the length of a payload and returns it: the connection counts it. */
function validateJsonPayload(payload, maxSizeBytes) {
  if (payload === null || payload === undefined) return 0;
  const payloadString = JSON.stringify(payload);
  if (payloadString.length > maxSizeBytes) throw new Error('Payload too large');
  return payloadString.length;
}

/** A guard, as the servers wire it. */
export class TwinGuard {
  #messageBytes;
  #manager;
  #next = 0;

  constructor(limits) {
    const timers = new TimerManager();
    new ResourceMonitor({ maxHeapSize: 512, criticalThreshold: 90 }, timers);
    this.#messageBytes = limits.messageBytes;
    this.#manager = new TwinConnectionManager({
      maxTotalConnections: limits.total,
      maxConnectionsPerIp: limits.perIp,
      maxConnectionsPerUser: limits.perUser,
      connectionTimeoutMs: limits.idleMs,
    });
    timers.setInterval(() => this.#manager.cleanupStaleConnections(), 5000);
  }

  seats() {
    return this.#manager.connections.size;
  }

  admit(ip, authorization) {
    let user;
    try {
      user = userOf(authorization);
    } catch (error) {
      return { status: 401, text: error.message };
    }
    const id = `connection-${++this.#next}`;
    const { success, reason } = this.#manager.addConnection(id, undefined, ip, user);
    return success ? { id } : { status: 429, text: reason };
  }

  open({ id }, socket) {
    this.#manager.connections.get(id).socket = socket;
  }

  leave({ id }) {
    this.#manager.removeConnection(id);
  }

  /** Returns true if the application may have the message. */
  received({ id }, message) {
    this.#manager.updateActivity(id);
    const connection = this.#manager.connections.get(id);
    if (connection === undefined) return false;
    connection.messageCount++;
    try {
      connection.bytesReceived += validateJsonPayload(message, this.#messageBytes);
      return true;
    } catch {
      connection.socket.close(1009, 'Payload too large');
      return false;
    }
  }

  sent({ id }, bytes) {
    const connection = this.#manager.connections.get(id);
    if (connection !== undefined) connection.bytesSent += bytes;
  }
}
