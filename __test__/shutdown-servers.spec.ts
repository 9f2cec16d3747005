import { once } from 'node:events';
import { Agent, get as httpGet } from 'node:http';
import { afterEach, describe, expect, it } from 'vitest';
import { pause } from './fixtures/until.js';
import { SERVERS, cleanUp, closeCode, start } from './servers/start.js';

// Graceful shutdown of every adapter's real server, in a process of its own that must end by itself.
afterEach(cleanUp);

const HANDSHAKE =
  'GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n';

describe.each(Object.entries(SERVERS))('a server with the adapter for %s', (name, command) => {
  it('lets requests finish, closes every WebSocket with its code one after the other, and ends by itself', async () => {
    const server = await start(command, {
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

  it('is refused to newcomers while it drains, and cuts off whoever keeps it at the deadline', async () => {
    const server = await start(command, {
      limits: {},
      requests: { timeoutMs: 60_000 },
      shutdown: { deadlineMs: 1200, closeTimeoutMs: 200 },
      hooks: ['throws', 'hangs'],
    });
    const slow = server.get('/slow?ms=60000').catch(() => 'cut off');
    const aborted = server.get('/aborted');
    // Has connected and says nothing; has sent half a request; is kept alive.
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
    // Far below the minute of the slow request; shutdown.spec.ts looks at the millisecond, by its own clock.
    expect(result.totalMs).toBeGreaterThanOrEqual(1200);
    expect(result.totalMs).toBeLessThan(20_000);
    expect(result).toMatchObject({ graceful: false, requestsAborted: 3, unhandled: [] });
    expect(result.hookErrors).toEqual([
      expect.stringMatching(/^hangs: the hook hangs took more than/),
      'throws: thrown',
    ]);
    // Its handler heard the signal and still could answer.
    expect(await aborted).toBe('aborted');
    expect(await slow).toBe('cut off');
    await half.closed;
    silent.socket.destroy();
    agent.destroy();
  });

  it('waits for nobody who is silent or kept alive', async () => {
    const server = await start(command, { limits: {} });
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

  it('forces a client that never answers the close', async () => {
    const server = await start(command, { limits: {}, shutdown: { closeTimeoutMs: 200 } });
    const client = await server.open();
    const mute = server.raw(HANDSHAKE);
    await server.becomes(2);
    const code = closeCode(client);
    const result = await server.end();
    expect(await code).toBe(1001);
    // The frame came: fin and close, its length, 1001.
    expect(mute.seen().slice(-19)).toContain('\x03\xe9Server shutdown');
    // Bun's own close event does not wait for the answer.
    const waits = name.startsWith('ws');
    expect(result.websocketsClosed).toEqual(
      waits ? { acknowledged: 1, forced: 1 } : { acknowledged: 2, forced: 0 },
    );
    expect([result.graceful, result.leftovers, result.code]).toEqual([!waits, [], 0]);
  });

  it('hears nothing more of a client that sends after the close', async () => {
    const server = await start(command, { limits: {} });
    const mute = server.raw(HANDSHAKE);
    await server.becomes(1);
    mute.socket.on('data', () =>
      mute.socket.write(Buffer.from([0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69])),
    );
    expect(await server.end()).toMatchObject({ hookErrors: [], code: 0, unhandled: [] });
  });

  it('exits with 0 after a signal, with 1 if something was cut off', async () => {
    const graceful = await start(command, { limits: {}, shutdown: { signals: ['SIGTERM'] } });
    await graceful.open();
    graceful.process.kill('SIGTERM');
    expect(await graceful.exited).toBe(0);
    const forced = await start(command, {
      limits: {},
      shutdown: { signals: ['SIGTERM'] },
      hooks: ['throws'],
    });
    forced.process.kill('SIGTERM');
    expect(await forced.exited).toBe(1);
  });

  it('exits at once at a second signal', async () => {
    const server = await start(command, {
      limits: {},
      shutdown: { signals: ['SIGTERM', 'SIGINT'], drainWindowMs: 10_000 },
    });
    await Promise.all([server.open(), server.open()]);
    server.process.kill('SIGTERM');
    // It is draining: newcomers are refused.
    for (let isIn = true; isIn;)
      isIn = await server.handshake().then(
        ({ status }) => status === 101,
        () => false,
      );
    server.process.kill('SIGINT');
    expect(await server.exited).toBe(130);
  });
});
