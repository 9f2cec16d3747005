// The settings that all contestants share: one message, one token format, one set of limits.
import { createHmac } from 'node:crypto';

export const HOSTS = ['bun', 'node'];
export const CONTESTANTS = ['bare', 'twin', 'npm', 'portcullis'];

export const SECRET = 'a secret of at least thirty-two bytes, for HS256';
export const ISSUER = 'https://issuer.example/';
export const AUDIENCE = 'load';

/** Path of the bare servers that refuses every handshake, and the text of that. */
export const REFUSING_PATH = '/full';
/** Longer than any run: a ban of the default length would end within one. */
export const BAN_MS = 86_400_000;
export const REFUSAL = '{"code":"full","message":"The server is full","retryAfterMs":1000}';

// Linux has all of 127.0.0.0/8 on its loopback interface; other systems have one address.
const ADDRESSES = process.platform === 'linux' ? 100 : 1;

/** Returns the addresses over which the clients spread evenly. */
export const addresses = (connections) => {
  const count = Math.min(ADDRESSES, connections);
  return Array.from({ length: count }, (_, index) =>
    ADDRESSES === 1 ? '127.0.0.1' : `127.0.${10 + (index >> 6)}.${10 + (index & 63)}`,
  );
};

/**
 * Returns the limits of a server. With all clients connected, each address is full and one more
 * client is refused.
 */
export const limitsFor = (connections) => ({
  total: connections + 1000,
  perIp: Math.ceil(connections / addresses(connections).length),
  perUser: 5,
  idleMs: 120_000,
  /**
   * Connects of an address per minute, far above a flood's: the flood is refused because the
   * address is full.
   */
  connectsPerMinute: 1_000_000,
  /** Messages of a connection per second, likewise far above a burst's. */
  messagesPerSecond: 100_000,
  bytesPerSecond: 100_000_000,
  messageBytes: 16_384,
  pingMs: 30_000,
});

/** Returns a user's token, valid for an hour. */
export function tokenOf(user, secret = SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: ISSUER, aud: AUDIENCE, sub: user, iat: now, exp: now + 3600 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Returns the message of a client. */
export const messageOf = (id) => ({
  type: 'say',
  id,
  room: `room-${id % 97}`,
  text: 'neither a short nor a long message',
});

/** Returns the answer to a parsed message: the application's work, the same for all contestants. */
export const answer = ({ id, room, text }) => ({ type: 'said', id, room, text });
