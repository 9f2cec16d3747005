// What all contestants are told and all clients say: one message, one token format, one set of limits.
import { createHmac } from 'node:crypto';

export const HOSTS = ['bun', 'node'];
export const CONTESTANTS = ['bare', 'twin', 'npm', 'portcullis'];

export const SECRET = 'a secret of at least thirty-two bytes, for HS256';
export const ISSUER = 'https://issuer.example/';
export const AUDIENCE = 'load';

// Linux has all of 127.0.0.0/8 on its loopback interface; elsewhere there is one address for all.
const ADDRESSES = process.platform === 'linux' ? 100 : 1;

/** The addresses that clients come from, evenly. */
export const addresses = (connections) => {
  const count = Math.min(ADDRESSES, connections);
  return Array.from({ length: count }, (_, index) =>
    ADDRESSES === 1 ? '127.0.0.1' : `127.0.${10 + (index >> 6)}.${10 + (index & 63)}`,
  );
};

/** The limits of a server for so many clients: each address is full when all are there, so that one more is refused. */
export const limitsFor = (connections) => ({
  total: connections + 1000,
  perIp: Math.ceil(connections / addresses(connections).length),
  perUser: 5,
  idleMs: 120_000,
  /** Connects of an address in a minute, far above what a flood brings: full is what refuses here. */
  connectsPerMinute: 1_000_000,
  /** Of one connection; likewise above what a burst of few of them brings. */
  messagesPerSecond: 100_000,
  bytesPerSecond: 100_000_000,
  messageBytes: 16_384,
  pingMs: 30_000,
});

/** A user's token, good for an hour. */
export function tokenOf(user, secret = SECRET) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const now = Math.floor(Date.now() / 1000);
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part({ iss: ISSUER, aud: AUDIENCE, sub: user, iat: now, exp: now + 3600 })}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** What a client says, and what it must be answered. */
export const messageOf = (id) => ({
  type: 'say',
  id,
  room: `room-${id % 97}`,
  text: 'neither a short nor a long message',
});

/** The application's work, the same for all: `message` was parsed, the answer will be serialised. */
export const answer = ({ id, room, text }) => ({ type: 'said', id, room, text });
