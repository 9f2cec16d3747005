import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { TokenVerifier } from '../dist/index.js';
import { type GuardOptions, portcullis } from '../dist/ws.js';
import { until } from './fixtures/until.js';

// A refusal ends the upload that it refuses: nobody reads it, and `maxPayloadSize` no longer counts it.
const verifier = new TokenVerifier({
  algorithms: ['HS256'],
  keys: { secret: Buffer.alloc(32, 7) },
});
const AUTH = { verifier, http: true };
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

async function listen(server: Server, close: () => void): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => {
    server.close();
    close();
  });
  return (server.address() as AddressInfo).port;
}

async function start(
  options: Partial<GuardOptions>,
  handler = (_request: IncomingMessage, response: ServerResponse): unknown => response.end('ok'),
  make: () => Server = () => createServer(),
): Promise<number> {
  const guard = portcullis({ limits: {}, ...options });
  return listen(make().on('request', guard.request(handler)), () => guard.close());
}

const CHUNK = `4000\r\n${'x'.repeat(0x4000)}\r\n`;

/** Sends a body without an end until the connection closes. Returns the answer. */
async function upload(port: number, path = '/', chunks = Infinity): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  ends.push(() => socket.destroy());
  let text = '';
  socket.on('data', (data) => (text += String(data))).on('error', () => undefined);
  let sent = 0;
  const send = (): void => {
    while (sent < chunks && !socket.destroyed && socket.write(CHUNK)) sent++;
  };
  socket.on('drain', () => setImmediate(send));
  socket.write(`POST ${path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n`);
  send();
  await until(() => socket.closed);
  return text;
}

describe('an upload', () => {
  it.each([
    ['no limits', {}],
    ['limits', { requests: {} }],
    ['a limit that it exceeds', { requests: { maxPayloadSize: 1000 } }],
  ])('without a token ends with 401: %s', async (_name, options) => {
    const answer = await upload(await start({ auth: AUTH, ...options }), '/', 2);
    expect(answer).toMatch(/^HTTP\/1\.1 401 .*connection: close/is);
    await upload(await start({ auth: AUTH, ...options }));
  });

  it('to the live page ends with its answer', async () => {
    const port = await start({ page: { path: '/page', token: 'x'.repeat(32) } });
    expect(await upload(port, '/page', 2)).toMatch(/^HTTP\/1\.1 4.*connection: close/is);
  });

  it('gets the whole answer of a handler that has answered before it was too large', async () => {
    const port = await start({ requests: { maxPayloadSize: 1000 } }, (request, response) => {
      request.on('error', () => undefined).resume();
      response.end('answered');
    });
    expect(await upload(port, '/', 2)).toMatch(/^HTTP\/1\.1 200 .*answered/s);
  });
});

describe('a refusal without an upload', () => {
  it.each([
    ['401', { auth: AUTH }],
    ['503', { requests: { maxConcurrent: 0 } }],
  ])('leaves its connection open: %s', async (status, options) => {
    const port = await start(options);
    const socket = connect(port, '127.0.0.1');
    ends.push(() => socket.destroy());
    let text = '';
    socket.on('data', (data) => (text += String(data)));
    for (let at = 1; at <= 2; at++) {
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n');
      await until(() => text.split(`HTTP/1.1 ${status} `).length === at + 1);
    }
    expect(text).not.toMatch(/connection: close/i);
  });
});

it('an upload of HTTP/2 without a token is stopped', async () => {
  const make = () => createHttp2() as unknown as Server;
  const port = await start({ auth: AUTH, requests: {} }, undefined, make);
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  ends.push(() => session.destroy());
  const stream = session.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
  let status: unknown;
  stream.on('response', (headers) => (status = headers[':status'])).resume();
  stream.write('x');
  await until(() => stream.closed);
  expect([status, stream.rstCode]).toEqual([401, 0]);
});
