import { afterEach, describe, expect, it } from 'vitest';
import { PortcullisError } from '../dist/index.js';
import { RefusalShape } from '../dist/http/refusal-shape.js';
import { SECRET, token } from './fixtures/sign.js';
import { type Answer, SERVERS, cleanUp, start } from './servers/start.js';

// The options of answers to refused clients, on every host.
afterEach(cleanUp);

describe.each(Object.entries(SERVERS))('refusals of the adapter for %s', (_name, command) => {
  it('are problem details with headers of the application, if it wants them', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerIp: 1 },
      requests: { maxPayloadSize: 4 },
      refusalFormat: 'problem',
      refusalHeaders: { 'X-Service': 'chat', 'Cache-Control': 'private' },
    });
    await server.open();
    const refused = await server.handshake();
    expect(refused.status).toBe(429);
    expect(refused.headers).toMatch(/\r\ncontent-type: application\/problem\+json/);
    expect(refused.headers).toMatch(/\r\nx-service: chat/);
    // A header of the application replaces the guard's header.
    expect(refused.headers.match(/cache-control: .*/g)).toEqual(['cache-control: private']);
    expect(refused.headers).toMatch(/\r\nretry-after: \d/);
    expect(JSON.parse(refused.body)).toEqual({
      type: 'about:blank',
      title: 'Too Many Requests',
      status: 429,
      detail: 'Max connections per IP exceeded',
      code: 'ip_limit',
      retryAfterMs: expect.any(Number),
    });
    const large = await fetch(`http://127.0.0.1:${server.port}/length`, {
      method: 'POST',
      body: 'too long',
    });
    expect([
      large.status,
      large.headers.get('content-type'),
      large.headers.get('x-service'),
    ]).toEqual([413, 'application/problem+json', 'chat']);
    expect(await large.json()).toEqual({
      type: 'about:blank',
      title: expect.any(String),
      status: 413,
      detail: 'Payload too large',
      code: 'payload_too_large',
    });
  });

  it('and admissions answer with no token as the subprotocol, wherever the one that counts stands', async () => {
    const [mine, other] = [token({ sub: 'ann' }), token({ sub: 'bob' })];
    const auth = { policy: { keys: SECRET }, cookie: 'session', subprotocol: 'bearer' };
    const offer = { 'Sec-WebSocket-Protocol': `bearer.${other}, chat` };
    const answered = ({ status, headers }: Answer): unknown => [
      status,
      /sec-websocket-protocol: (.*)/.exec(headers)?.[1],
    ];
    const server = await start(command, { limits: {}, auth });
    for (const place of [
      {},
      { Cookie: `session=${mine}`, Origin: 'http://127.0.0.1' },
      { Authorization: `Bearer ${mine}` },
    ])
      expect(answered(await server.handshake({ ...offer, ...place }))).toEqual([101, 'chat']);
    // These handshakes are completed, and then closed by code.
    const limits = { maxTotalConnections: 0 };
    const full = await start(command, { limits, auth, refuseWith: 'close' });
    const foreign = { Cookie: `session=${mine}`, Origin: 'https://elsewhere.example' };
    for (const headers of [offer, { ...offer, ...foreign }])
      expect(answered(await full.handshake(headers))).toEqual([101, 'chat']);
  });
});

describe('a wrong option', () => {
  const wrong = (options: object): [string, string | undefined] => {
    try {
      RefusalShape.of(options);
    } catch (error) {
      if (error instanceof PortcullisError) return [error.code, error.field];
    }
    throw new Error('no PortcullisError was thrown');
  };

  it.each([
    [{ refusalFormat: 'xml' }, 'ERR_OUT_OF_RANGE', 'refusalFormat'],
    [{ onRefused: 'no' }, 'ERR_INVALID_ARG_TYPE', 'onRefused'],
    [{ refusalHeaders: 5 }, 'ERR_INVALID_ARG_TYPE', 'refusalHeaders'],
    [{ refusalHeaders: ['a'] }, 'ERR_INVALID_ARG_TYPE', 'refusalHeaders'],
    [{ refusalHeaders: { a: 5 } }, 'ERR_INVALID_ARG_TYPE', 'refusalHeaders.a'],
    [{ refusalHeaders: { 'a b': '' } }, 'ERR_OUT_OF_RANGE', 'refusalHeaders.a b'],
    [{ refusalHeaders: { a: 'b\r\nc: d' } }, 'ERR_OUT_OF_RANGE', 'refusalHeaders.a'],
    [
      { refusalHeaders: { 'Content-Length': '1' } },
      'ERR_OUT_OF_RANGE',
      'refusalHeaders.Content-Length',
    ],
    [
      { refusalHeaders: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`x-${i}`, ''])) },
      'ERR_OUT_OF_RANGE',
      'refusalHeaders',
    ],
  ])('%j is refused by its name', (options, code, field) => {
    expect(wrong(options)).toEqual([code, field]);
  });

  it('is none of these', () => {
    expect(RefusalShape.of({})).toBeUndefined();
    expect(RefusalShape.of({ refusalHeaders: { 'x-a': '', 'x-b': 'é b' } })).toBeDefined();
  });
});
