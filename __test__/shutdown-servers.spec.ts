import { once } from 'node:events';
import { Agent, get as httpGet, type IncomingMessage } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { pause, until } from './fixtures/until.js';
import { SERVERS, cleanUp, closeCode, startAlone } from './servers/start.js';

// Graceful shutdown of a real server of each adapter, in a process of its own that must end by itself.
afterEach(cleanUp);

const HANDSHAKE =
  'GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

describe.each(Object.entries(SERVERS))('a server with the adapter for %s', (name, command) => {
  it('finishes requests, spreads the closes of WebSockets over the window, and ends by itself', async () => {
    const server = await startAlone(command, {
      limits: {},
      requests: {},
      shutdown: { closeCode: 1012, drainWindowMs: 800 },
      hooks: ['one'],
    });
    const clients = await Promise.all(Array.from({ length: 20 }, () => server.open()));
    const closes: number[] = [];
    const codes = clients.map((client) =>
      closeCode(client).finally(() => closes.push(performance.now())),
    );
    const held = Array.from({ length: 5 }, () => server.get('/held'));
    await server.until(({ requests }) => requests?.active === 6);
    const result = await server.end();
    expect(await Promise.all(held)).toEqual(Array.from({ length: 5 }, () => 'held'));
    expect(new Set(await Promise.all(codes))).toEqual(new Set([1012]));
    expect(closes[19]! - closes[0]!).toBeGreaterThan(100);
    expect(result).toMatchObject({
      graceful: true,
      requestsAborted: 0,
      websocketsClosed: { acknowledged: 20, forced: 0 },
      hookErrors: [],
      leftovers: [],
      code: 0,
      unhandled: [],
    });
  });

  it('refuses new clients while it drains, and aborts the rest at the deadline', async () => {
    const server = await startAlone(command, {
      limits: {},
      requests: { timeoutMs: 60_000 },
      shutdown: { deadlineMs: 1200, closeTimeoutMs: 200 },
      hooks: ['throws', 'hangs'],
    });
    const slow = server.get('/slow?ms=60000').catch(() => 'cut off');
    const aborted = server.get('/aborted');
    // A silent connection, one with half a request, and one that is kept alive.
    const silent = server.raw('');
    const half = server.raw(
      'POST /length HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 10\r\n\r\nabc',
    );
    const agent = new Agent({ keepAlive: true });
    const [kept] = (await once(
      httpGet({ port: server.port, host: '127.0.0.1', path: '/slow?ms=1', agent }),
      'response',
    )) as [NodeJS.ReadableStream];
    kept.resume();
    await server.until(({ requests }) => requests?.active === 4);
    const ending = server.end();
    const newcomer = async (): Promise<string> => {
      for (;;) {
        try {
          const { status } = await server.handshake();
          if (status !== 101) return String(status);
        } catch {
          return 'refused';
        }
        await pause(5);
      }
    };
    expect(['refused', '503', '0']).toContain(await newcomer());
    const result = await ending;
    // Far below the minute of the slow request; shutdown.spec.ts checks the millisecond, by a clock of its own.
    expect(result.totalMs).toBeGreaterThanOrEqual(1200);
    expect(result.totalMs).toBeLessThan(20_000);
    expect(result).toMatchObject({ graceful: false, requestsAborted: 3, unhandled: [] });
    expect(result.hookErrors).toEqual([
      expect.stringMatching(/^hangs: the hook hangs took more than/),
      'throws: thrown',
    ]);
    // The handler could answer after its signal had aborted.
    expect(await aborted).toBe('aborted');
    expect(await slow).toBe('cut off');
    await half.closed;
    silent.socket.destroy();
    agent.destroy();
  });

  it('tells endless responses and sockets that it drains, and does not wait for its deadline', async () => {
    const server = await startAlone(command, {
      limits: {},
      requests: { timeoutMs: 120_000 },
      shutdown: { deadlineMs: 60_000, drainWindowMs: 0 },
      lastWords: 'bye',
    });
    const paths = name === 'elysia' ? ['/events', '/generated'] : ['/events'];
    const streams = paths.map((path) =>
      server.raw(`GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`),
    );
    await until(() => streams.every(({ seen }) => seen().includes('data: hello')));
    const polled = server.get('/poll');
    const client = await server.open();
    const heard: string[] = [];
    client.on('message', (data: Buffer) => heard.push(data.toString()));
    const code = closeCode(client);
    await server.until(({ requests }) => (requests?.active ?? 0) >= 2);
    const result = await server.end();
    expect(result).toMatchObject({
      graceful: true,
      requestsAborted: 0,
      hookErrors: [],
      leftovers: [],
      code: 0,
      unhandled: [],
    });
    // Three quarters of the deadline are 45 s.
    expect(result.totalMs).toBeLessThan(20_000);
    expect(await polled).toBe('nothing new');
    expect([await code, heard]).toEqual([1001, ['bye']]);
    for (const { closed } of streams)
      expect(await closed).toMatch(/event: bye\ndata: ?\n\n\r\n0\r\n\r\n$/);
  });

  it('does not wait for silent or kept-alive connections', async () => {
    const server = await startAlone(command, { limits: {} });
    const silent = server.raw('');
    const agent = new Agent({ keepAlive: true });
    const [kept] = (await once(
      httpGet({ port: server.port, host: '127.0.0.1', path: '/slow?ms=1', agent }),
      'response',
    )) as [NodeJS.ReadableStream];
    kept.resume();
    await once(kept, 'end');
    const result = await server.end();
    expect(result).toMatchObject({ graceful: true, leftovers: [], code: 0 });
    expect(result.totalMs).toBeLessThan(5000);
    silent.socket.destroy();
    agent.destroy();
  });

  it('terminates a client that never answers the close', async () => {
    const server = await startAlone(command, { limits: {}, shutdown: { closeTimeoutMs: 200 } });
    const client = await server.open();
    const mute = server.raw(HANDSHAKE);
    await server.becomes(2);
    const code = closeCode(client);
    const result = await server.end();
    expect(await code).toBe(1001);
    // The close frame has arrived: opcode, length, 1001.
    expect(mute.seen().slice(-19)).toContain('\x03\xe9Server shutdown');
    // The close event of Bun does not wait for the answer.
    const waits = name.startsWith('ws');
    expect(result.websocketsClosed).toEqual(
      waits ? { acknowledged: 1, forced: 1 } : { acknowledged: 2, forced: 0 },
    );
    expect([result.graceful, result.leftovers, result.code]).toEqual([!waits, [], 0]);
  });

  it('ignores messages that a client sends after the close', async () => {
    const server = await startAlone(command, { limits: {} });
    const mute = server.raw(HANDSHAKE);
    await server.becomes(1);
    mute.socket.on('data', () =>
      mute.socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])),
    );
    expect(await server.end()).toMatchObject({ hookErrors: [], code: 0, unhandled: [] });
  });

  it('exits with 0 after a signal, and with 1 if something was aborted', async () => {
    const graceful = await startAlone(command, { limits: {}, shutdown: { signals: ['SIGTERM'] } });
    await graceful.open();
    graceful.process.kill('SIGTERM');
    expect(await graceful.exited).toBe(0);
    const forced = await startAlone(command, {
      limits: {},
      shutdown: { signals: ['SIGTERM'] },
      hooks: ['throws'],
    });
    forced.process.kill('SIGTERM');
    expect(await forced.exited).toBe(1);
  });

  it('refuses the handshakes that wait for an identity, which may never come', async () => {
    const server = await startAlone(command, { limits: {}, whoAmI: 'header', shutdown: {} });
    const waiting = server.handshake({ 'X-User': 'never' });
    await until(async () => (await server.get('/tally')).includes('"identifying":1'));
    const result = await server.end();
    expect(await waiting).toMatchObject({
      status: 503,
      headers: expect.stringContaining('retry-after: ') as string,
      body: expect.stringContaining('"code":"draining"') as string,
    });
    expect(result).toMatchObject({ graceful: true, leftovers: [], code: 0, unhandled: [] });
    expect(result.totalMs).toBeLessThan(2000);
  });

  it('exits at once at a second signal', async () => {
    const server = await startAlone(command, {
      limits: {},
      shutdown: { signals: ['SIGTERM', 'SIGINT'], drainWindowMs: 10_000 },
    });
    await Promise.all([server.open(), server.open()]);
    server.process.kill('SIGTERM');
    // The server drains when it refuses new clients.
    for (let isIn = true; isIn;)
      isIn = await server.handshake().then(
        ({ status }) => status === 101,
        () => false,
      );
    server.process.kill('SIGINT');
    expect(await server.exited).toBe(130);
  });
});

it.each(Object.entries(SERVERS))(
  'says `Connection: close` from notReady on, and serves meanwhile: %s',
  async (_name, command) => {
    const server = await startAlone(command, {
      limits: {},
      requests: {},
      shutdown: { preDrainDelayMs: 600 },
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const ask = async (): Promise<[number | undefined, string | undefined]> => {
      const [response] = (await once(
        httpGet({ port: server.port, host: '127.0.0.1', path: '/slow?ms=1', agent }),
        'response',
      )) as [IncomingMessage];
      response.resume();
      await once(response, 'end');
      return [response.statusCode, response.headers.connection];
    };
    expect((await ask())[1]).not.toBe('close');
    const ending = server.end();
    await pause(150);
    // Over the kept connection, which is still open, and over a new one.
    expect([await ask(), await ask()]).toEqual([
      [200, 'close'],
      [200, 'close'],
    ]);
    expect(await ending).toMatchObject({ graceful: true, requestsAborted: 0, code: 0 });
    agent.destroy();
  },
);
