// Trials with malformed frames, handshakes and tokens.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { checkMemory } from '../memory-check.mjs';
import { RawClient, frame, handshakeText } from '../raw-clients.mjs';
import { Server } from '../process.mjs';

const text = (value) => Buffer.from(value, 'latin1');

/** Frames that RFC 6455 forbids; each must end its connection. */
const FORBIDDEN = [
  () => frame(1, text('unmasked'), { isMasked: false }),
  () => frame(1, text('reserved bits'), { rsv: 7 }),
  () => frame(3, text('reserved opcode')),
  () => frame(0xb, text('reserved control')),
  () => frame(9, text('p'.repeat(126))),
  () => frame(9, text('ping'), { fin: false }),
  () => frame(0, text('continues nothing')),
  () => Buffer.concat([frame(1, text('begins'), { fin: false }), frame(1, text('begins again'))]),
  () => frame(1, Buffer.of(0xc3, 0x28)),
  () => frame(1, Buffer.of(0xed, 0xa0, 0x80)),
  () => frame(8, Buffer.of(3)),
  () => frame(8, Buffer.of(3, 237)),
  () => frame(8, Buffer.of(0, 0)),
  () => frame(8, Buffer.concat([Buffer.of(3, 232), Buffer.of(0xff, 0xfe)])),
  () => frame(1, text(''), { length: 2 ** 40 }),
  () => frame(2, text(''), { length: 0x7fff_ffff }),
  () => frame(1, text('x'.repeat(5000))),
  () => Buffer.from('GET / HTTP/1.1\r\n\r\n'),
];

/** @param {import('../plan.mjs').Context} context */
export async function garbage({ host, random, counts, tell }) {
  const server = await Server.start(host, {
    limits: { connectionTimeoutMs: 60_000 },
    websockets: { maxMessageSize: 4096 },
  });
  const memory = await checkMemory(server, counts.garbage, tell, async (at) => {
    const client = new RawClient(server.port, at);
    const isForbidden = at < FORBIDDEN.length || random.next() < 0.5;
    const data = isForbidden
      ? (FORBIDDEN[at] ?? random.pick(FORBIDDEN))()
      : random.bytes(1 + random.below(300));
    // Some data follows the handshake at once; all of it comes in two pieces.
    const isAtOnce = random.next() < 0.3;
    client.write(handshakeText());
    if (!isAtOnce && (await client.status()) !== 101) throw new Error('a client was not admitted');
    const cut = random.below(data.length);
    client.write(data.subarray(0, cut));
    await new Promise((resolve) => void setImmediate(resolve));
    client.write(data.subarray(cut));
    // Random bytes may begin a frame that never ends: a server that waits for its end is right.
    if (!isForbidden) client.socket.end();
    await client.closed;
  });
  const { admitted } = await server.settle(counts.waitsForClosing);
  return `${admitted} clients sent garbage, ${FORBIDDEN.length} kinds of it forbidden; ${memory}`;
}

/** Heads of requests that are no valid handshakes. */
const WRONG = [
  (random) =>
    handshakeText({
      'Sec-WebSocket-Key': random.pick([
        '',
        'short',
        'x'.repeat(5000),
        'dGhlIHNhbXBsZSBub25jZQ',
        '\u0001',
      ]),
    }),
  (random) =>
    handshakeText({
      'Sec-WebSocket-Version': random.pick(['', '0', '7', '12', '14', '13, 8', '99999999999']),
    }),
  () => handshakeText({ Upgrade: 'h2c' }),
  () => handshakeText({ Connection: 'close' }),
  () => handshakeText({}, 'POST /ws HTTP/1.1'),
  () => handshakeText({}, 'GET /ws HTTP/1.0'),
  () => handshakeText({}, 'GET /ws'),
  () => handshakeText({}, 'GET ws://[::1 HTTP/1.1'),
  () => handshakeText({}, 'OPTIONS * HTTP/1.1'),
  () => handshakeText({}, `GET /${'x'.repeat(70_000)} HTTP/1.1`),
  () => handshakeText({ 'X-Large': 'x'.repeat(100_000) }),
  () =>
    handshakeText(Object.fromEntries(Array.from({ length: 3000 }, (_, at) => [`X-${at}`, 'x']))),
  () => handshakeText({ 'No colon': 'x' }).replace('No colon: ', 'No colon '),
  () => handshakeText({ 'Content-Length': '10', 'Transfer-Encoding': 'chunked' }),
  () => handshakeText({ 'Content-Length': '-1' }),
  () => handshakeText({ 'X-Null': 'a\0b' }),
  () => handshakeText().replaceAll('\r\n', '\n'),
  () =>
    handshakeText({ 'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=99' }),
  () => handshakeText({ 'Sec-WebSocket-Extensions': ';;;,,,=' }),
  () => handshakeText({ 'Sec-WebSocket-Protocol': ',,' }),
  () => handshakeText({ 'X-Forwarded-For': `${'1.2.3.4, '.repeat(1000)}x`, Forwarded: 'for="' }),
  (random) => random.bytes(1 + random.below(2000)),
  () => `${handshakeText({ Connection: 'keep-alive', Upgrade: 'none' })}${handshakeText()}`,
];

/** @param {import('../plan.mjs').Context} context */
export async function handshakes({ host, random, counts, tell }) {
  const server = await Server.start(host, {
    limits: { maxConnectionsPerIp: 1000 },
    trustedProxies: ['127.0.0.0/8'],
  });
  const memory = await checkMemory(server, counts.handshakes, tell, async (at) => {
    const client = new RawClient(server.port, at);
    client.write((WRONG[at] ?? random.pick(WRONG))(random));
    // Any answer will do, or none: the check is that no seat and no memory remains.
    client.socket.end();
    await client.closed;
  });
  const client = new RawClient(server.port);
  if (!(await client.opens()))
    throw new Error(`a good client is no longer admitted: ${client.seen}`);
  await client.reset();
  await server.settle(counts.waitsForClosing);
  return `${counts.handshakes} malformed handshakes of ${WRONG.length} kinds; ${memory}`;
}

const vectors = new URL('../../../shared/vectors/', import.meta.url);
const base64url = (value) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const read = (path) => JSON.parse(readFileSync(new URL(path, vectors), 'utf8'));

/** Yields every string below `value`: each may be a token or a part of one. */
function* stringsOf(value) {
  if (typeof value === 'string') yield value;
  else if (typeof value === 'object' && value !== null)
    for (const one of Object.values(value)) yield* stringsOf(one);
}

function vectorTokens() {
  if (!existsSync(vectors)) return [];
  const folder = (path) => readdirSync(new URL(path, vectors)).map((name) => `${path}${name}`);
  const files = [
    ...['jws/', 'jwe/', 'curve25519/', 'rfc7797/'].flatMap((name) =>
      folder(`jose-cookbook/${name}`),
    ),
    'rfc7515/appendix_a.json',
  ];
  return files
    .filter((path) => path.endsWith('.json'))
    .flatMap((path) => [...stringsOf(read(path))]);
}

/**
 * Returns the keys of the RFC's examples: with them, good signatures are verified to the end. The
 * signed texts are expired tokens or none.
 */
function vectorKeys() {
  if (!existsSync(vectors)) return [];
  const { vectors: rows } = read('rfc7515/appendix_a.json');
  return rows
    .filter(({ jwk, result }) => jwk !== null && jwk !== undefined && result === 'valid')
    .map(({ jwk, alg }, at) => ({ ...jwk, alg, kid: `vector-${at}` }));
}

/** Returns tokens with one mistake each. */
function spoilt(good, make, random) {
  const [header, payload, signature] = good.split('.');
  const now = Math.floor(Date.now() / 1000);
  return [
    '',
    '.',
    '..',
    '...',
    'x',
    `${good}.`,
    `.${good}`,
    `${header}.${payload}.`,
    `${header}..${signature}`,
    `.${payload}.${signature}`,
    `${header}.${payload}.${signature.slice(1)}`,
    `${header}.${base64url({ sub: 'eve', exp: now + 1e6 })}.${signature}`,
    `${base64url({ alg: 'none', typ: 'JWT' })}.${payload}.`,
    `${base64url({ alg: 'HS256', typ: 'JWT', crit: ['x'] })}.${payload}.${signature}`,
    ...[
      { exp: 1 },
      { exp: '1e9' },
      { exp: null },
      { nbf: now + 1e6 },
      { iat: 1e300 },
      { sub: 7 },
      { sub: '' },
      { sub: 'x'.repeat(2000) },
    ].map(make),
    make({ deep: JSON.parse('['.repeat(200) + ']'.repeat(200)) }),
    'x'.repeat(7000),
    random.bytes(200).toString('base64url'),
    Array.from({ length: 3 }, () => random.bytes(40).toString('base64url')).join('.'),
  ];
}

/**
 * Makes good tokens of two kinds; returns their makers, which take claims, and the keys that verify
 * them.
 */
function goodTokens() {
  const secret = 'k'.repeat(32);
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const signed = (header, claims, by) => {
    const exp = Math.floor(Date.now() / 1000) + 3600;
    const head = `${base64url(header)}.${base64url({ sub: 'ann', exp, ...claims })}`;
    return `${head}.${by(head)}`;
  };
  const hmac = (claims) =>
    signed({ alg: 'HS256', typ: 'JWT', kid: 'own' }, claims, (head) =>
      createHmac('sha256', secret).update(head).digest('base64url'),
    );
  const ecdsa = (claims) =>
    signed({ alg: 'ES256', typ: 'JWT', kid: 'ec' }, claims, (head) =>
      sign('sha256', Buffer.from(head), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString(
        'base64url',
      ),
    );
  const keys = [
    { kty: 'oct', alg: 'HS256', kid: 'own', k: base64url(secret) },
    { ...publicKey.export({ format: 'jwk' }), alg: 'ES256', kid: 'ec' },
  ];
  return { makers: [hmac, ecdsa], keys };
}

const withToken = (token) => ({ Authorization: `Bearer ${token}` });

/** Connects with a token that must be refused. */
async function refused(server, at, token) {
  const client = new RawClient(server.port, at);
  const status = (await client.opens(withToken(token))) ? 101 : await client.status();
  if (status !== 401) throw new Error(`a bad token was answered with ${status}`);
  await client.reset();
}

/** Connects three times as one user, who may have two connections. */
async function admittedTwice(server, make) {
  const clients = Array.from({ length: 3 }, () => new RawClient(server.port));
  for (const client of clients.slice(0, 2))
    if (!(await client.opens(withToken(make({})))))
      throw new Error(`a good token is refused: ${client.seen}`);
  await clients[2].opens(withToken(make({})));
  if ((await clients[2].status()) !== 429)
    throw new Error('a third connection of a user that may have two');
  await Promise.all(clients.map((client) => client.reset()));
  await server.seats(0);
}

/** @param {import('../plan.mjs').Context} context */
export async function tokens({ host, random, counts, tell }) {
  const { makers, keys } = goodTokens();
  const server = await Server.start(host, {
    limits: { maxConnectionsPerUser: 2 },
    keys: [...keys, ...vectorKeys()],
  });
  const found = vectorTokens();
  // A header can hold only visible ASCII characters.
  const sendable = (token) => token.length < 8000 && /^[\x21-\x7e]*$/.test(token);
  const bad = [...found, ...makers.flatMap((make) => spoilt(make({}), make, random))].filter(
    sendable,
  );
  const total = Math.max(bad.length, counts.tokens);
  const memory = await checkMemory(server, total, tell, (at) =>
    refused(server, at, bad[at] ?? random.pick(bad)),
  );
  for (const make of makers) await admittedTwice(server, make);
  const { admitted, authDenials } = await server.settle(counts.waitsForClosing);
  if (admitted !== 4)
    throw new Error(`${admitted} clients were admitted instead of the 4 with a good token`);
  const whence =
    found.length > 0
      ? `${found.length} strings of the JOSE cookbook and RFC 7515`
      : 'generated ones (the vectors are not beside the project)';
  return `${total} bad tokens, of ${whence}; refused for ${Object.keys(authDenials).length} reasons; 4 good ones admitted; ${memory}`;
}
