import { once } from 'node:events';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import {
  type ClientHttp2Stream,
  connect as connectHttp2,
  createSecureServer,
  createServer,
} from 'node:http2';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { GracefulShutdown, TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { type GuardOptions, portcullis, signalOf } from '../dist/ws.js';
import { until } from './fixtures/until.js';
import { TLS } from '../rolling/certificate.mjs';

// Requests of HTTP/2 whose session or stream stays open behind them. After a frame that breaks the protocol Node keeps
// the session without a word; Bun keeps the stream of a client that does not end its body.
const BUN = 'bun' in process.versions;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** Starts a guarded server whose timeouts pass with `clock`. */
async function start(
  requests: GuardOptions['requests'],
  handler: Handler,
  make: () => object = createServer,
) {
  const clock = new ManualClock();
  const guard = portcullis({
    limits: {},
    timers: new TimerManager({ clock }),
    ...(requests === undefined ? {} : { requests }),
  });
  const server = make() as Server;
  server.on('request', guard.request(handler)).listen(0, '127.0.0.1');
  server.on('sessionError', () => undefined);
  const drainable = guard.drainable(server);
  await once(server, 'listening');
  ends.push(() => {
    server.close();
    guard.close();
  });
  return {
    clock,
    drainable,
    port: (server.address() as AddressInfo).port,
    active: () => guard.snapshot().requests?.active,
    served: () => guard.snapshot().requests?.served,
    connections: () =>
      new Promise<number>((resolve) => server.getConnections((_error, count) => resolve(count))),
  };
}

function frame(type: number, flags: number, stream: number, payload = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}
const field = (name: string, value: string): Buffer =>
  Buffer.concat(
    [name, value].flatMap((text, at) => [
      Buffer.from(at === 0 ? [0, text.length] : [text.length]),
      Buffer.from(text),
    ]),
  );
/** SETTINGS with a window of 2^31 - 1 bytes for each stream. */
const SETTINGS = frame(4, 0, 0, Buffer.from([0, 4, 0x7f, 0xff, 0xff, 0xff]));
/** WINDOW_UPDATE of the session, almost to 2^31 - 1 bytes. */
const WINDOW = frame(8, 0, 0, Buffer.from([0x7f, 0, 0, 0]));
const GET = Buffer.concat([
  Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
  SETTINGS,
  WINDOW,
  frame(
    1,
    5,
    1,
    Buffer.concat([
      field(':method', 'GET'),
      field(':path', '/'),
      field(':scheme', 'http'),
      field(':authority', 'x'),
    ]),
  ),
]);
const BAD: Record<string, Buffer> = {
  'that are no frame': Buffer.from('GET / HTTP/1.1\r\n\r\n'),
  'of a PING of 7 bytes': frame(6, 0, 0, Buffer.alloc(7)),
  'of a SETTINGS of 5 bytes': frame(4, 0, 0, Buffer.alloc(5)),
  // Bun ignores it.
  ...(BUN ? {} : { 'of a PRIORITY on itself': frame(2, 0, 1, Buffer.from([0, 0, 0, 1, 1])) }),
};

function rawClient(port: number): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.on('error', () => undefined);
  ends.push(() => socket.destroy());
  return socket;
}

describe.each(Object.entries(BAD))('a client of HTTP/2 that sends bytes %s', (_name, bad) => {
  it.each([
    ['its answer is there, and it leaves', true, 'leaves'],
    ['its answer is there, and it stays', true, 'stays'],
    ['its answer is late, and it leaves', false, 'leaves'],
    ['its answer is late, and it stays', false, 'stays'],
  ])('gives its seat back, though %s', async (_when, isEarly, then) => {
    let arrived = 0;
    const server = await start({ maxConcurrent: 1, timeoutMs: 1000 }, (_request, response) => {
      arrived++;
      if (isEarly) response.end('ok');
      else setImmediate(() => setImmediate(() => response.end('ok')));
    });
    const socket = rawClient(server.port).resume();
    socket.write(Buffer.concat([GET, bad]));
    await until(() => arrived === 1);
    if (then === 'leaves') socket.resetAndDestroy();
    await until(async () => {
      server.clock.advance(500);
      await new Promise((resolve) => setImmediate(resolve));
      return server.active() === 0 && (await server.connections()) === 0;
    });
    expect(server.served()).toBe(1);
  });

  it.skipIf(BUN)(
    'gives its seat back over TLS, too (skipped on Bun: its sessions end)',
    async () => {
      const server = await start(
        { maxConcurrent: 1, timeoutMs: 1000 },
        (_request, response) => response.end('ok'),
        () => createSecureServer(TLS),
      );
      const socket = connectTls({
        port: server.port,
        rejectUnauthorized: false,
        ALPNProtocols: ['h2'],
      });
      ends.push(() => socket.destroy());
      socket.on('error', () => undefined).resume();
      await once(socket, 'secureConnect');
      socket.write(Buffer.concat([GET, bad]));
      await until(() => server.active() === 1);
      socket.destroy();
      await until(async () => {
        server.clock.advance(500);
        await new Promise((resolve) => setImmediate(resolve));
        return server.active() === 0 && (await server.connections()) === 0;
      });
      expect(server.served()).toBe(1);
    },
  );

  it('gives its seat back, though its answer had begun and outlived the timeout', async () => {
    let signal: AbortSignal | undefined;
    const server = await start({ timeoutMs: 1000 }, (request, response) => {
      signal = signalOf(request);
      response.write('begun');
    });
    const socket = rawClient(server.port);
    let text = '';
    socket.on('data', (data) => (text += String(data)));
    socket.write(GET);
    await until(() => text.includes('begun'));
    server.clock.advance(5000);
    expect(server.active()).toBe(1);
    socket.write(bad);
    // Node's GOAWAY, or on Bun the end.
    const before = text.length;
    await until(() => text.length > before || socket.closed);
    socket.resetAndDestroy();
    await until(async () => {
      server.clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
      return server.active() === 0 && (await server.connections()) === 0;
    });
    expect(signal?.aborted).toBe(true);
  });

  it('does not hold a shutdown, also without limits of requests', async () => {
    let arrived = false;
    const server = await start(undefined, (_request, response) => {
      arrived = true;
      response.end('ok');
    });
    const socket = rawClient(server.port).resume();
    socket.write(Buffer.concat([GET, bad]));
    await until(() => arrived);
    socket.resetAndDestroy();
    const result = await new GracefulShutdown().add(server.drainable).shutdown();
    expect(result).toMatchObject({ graceful: true, requestsAborted: 0, leftovers: [] });
    await until(async () => (await server.connections()) === 0);
  });
});

describe('a client of HTTP/2', () => {
  // Bun takes the whole answer at once: the request is over.
  it.skipIf(BUN)(
    'that reads nothing for a while keeps its stream (Bun asks no session)',
    async () => {
      let isAborted = false;
      const server = await start({ timeoutMs: 1000 }, (request, response) => {
        signalOf(request)?.addEventListener('abort', () => (isAborted = true));
        response.end(Buffer.alloc(20_000_000));
      });
      const socket = rawClient(server.port).pause();
      socket.write(GET);
      await until(() => server.active() === 1);
      for (let step = 0; step < 100; step++) {
        server.clock.advance(1000);
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect([server.active(), isAborted]).toEqual([1, false]);
      let bytes = 0;
      socket.on('data', (data: Buffer) => (bytes += data.length)).resume();
      await until(() => bytes > 20_000_000);
      await until(() => server.active() === 0);
      expect(isAborted).toBe(false);
    },
  );
});

/** Begins a request whose body stays open. */
function post(port: number): ClientHttp2Stream & { seen: string } {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  ends.push(() => session.destroy());
  const stream = session.request({ ':method': 'POST', ':path': '/' }, { endStream: false });
  const seen = Object.assign(stream, { seen: '' });
  stream.on('error', () => undefined);
  stream.setEncoding('utf8').on('data', (text: string) => (seen.seen += text));
  return seen;
}

describe('a request of HTTP/2 that is answered before its body has ended', () => {
  it('gives its seat back, and its stream ends', async () => {
    const server = await start({ maxConcurrent: 1 }, (_request, response) => response.end('ok'));
    const stream = post(server.port);
    await until(() => stream.closed && server.active() === 0);
    expect([stream.seen, stream.rstCode]).toEqual(['ok', 0]);
  });

  it('gives its seat back while its handler reads on', async () => {
    let body = '';
    let hasEnded = false;
    const server = await start({ maxConcurrent: 1 }, (request, response) => {
      request.on('data', (data) => (body += String(data))).on('end', () => (hasEnded = true));
      response.end('ok');
    });
    const stream = post(server.port);
    stream.write('one');
    await until(() => body === 'one' && stream.seen === 'ok' && server.active() === 0);
    stream.end(' two');
    await until(() => hasEnded);
    expect(body).toBe('one two');
  });

  it('fails for a handler that reads on, once it is too large', async () => {
    let problem: unknown;
    const server = await start({ maxPayloadSize: 1000 }, (request, response) => {
      request.on('error', (error) => (problem = (error as { code?: unknown }).code)).resume();
      response.end('ok');
    });
    const stream = post(server.port);
    await until(() => stream.seen === 'ok' && server.active() === 0);
    stream.write('x'.repeat(1001));
    await until(() => problem !== undefined);
    expect(problem).toBe('ERR_OUT_OF_RANGE');
  });

  it('does not hold a shutdown, and its body never looks whole', async () => {
    const read: unknown[] = [];
    const server = await start(undefined, async (request, response) => {
      response.end('ok');
      try {
        for await (const part of request) read.push(String(part));
        read.push('whole');
      } catch (error) {
        read.push((error as { code?: unknown }).code);
      }
    });
    const stream = post(server.port);
    stream.write('part');
    await until(() => read.length === 1 && stream.seen === 'ok');
    const result = await new GracefulShutdown().add(server.drainable).shutdown();
    expect(result).toMatchObject({ graceful: true, requestsAborted: 0, leftovers: [] });
    await until(() => read.length === 2);
    expect(read).toEqual(['part', 'ERR_TIMEOUT']);
    await until(async () => (await server.connections()) === 0);
  });
});

it('the signal of a request of HTTP/2 aborts when its client leaves a response that has begun', async () => {
  let signal: AbortSignal | undefined;
  const server = await start({}, (request, response) => {
    signal = signalOf(request);
    response.write('begun');
  });
  const stream = post(server.port);
  await until(() => stream.seen === 'begun');
  stream.close(8);
  await until(() => server.active() === 0);
  expect(signal?.aborted).toBe(true);
});
