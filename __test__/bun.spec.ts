import { afterEach, describe, expect, it } from 'vitest';
import { type BunGuard, connectionOf, portcullis } from '../dist/bun.js';
import { frame, rawClient, type RawClient } from './fixtures/raw-client.js';
import { until } from './fixtures/until.js';

// Behaviour of `portcullis/bun` alone; contract.spec.ts has the rest. Node has no Bun.serve.
const BUN = 'bun' in process.versions;
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
});

type Handler = (request: Request, server: Bun.Server<undefined>) => Response | undefined;
const upgrade: Handler = (request, server) =>
  server.upgrade(request) ? undefined : new Response('no WebSocket', { status: 400 });

function serve(options: object): { readonly port: number; reload(options: object): void } {
  const server = Bun.serve({ port: 0, hostname: '127.0.0.1', ...options } as never);
  ends.push(() => server.stop(true));
  return { port: server.port!, reload: (next) => void server.reload(next as never) };
}
async function open(port: number, path?: string): Promise<RawClient> {
  const client = await rawClient(port, path);
  ends.push(() => client.socket.destroy());
  return client;
}
const guarded = (options: Parameters<typeof portcullis>[0]): BunGuard => {
  const guard = portcullis(options);
  ends.push(() => guard.close());
  return guard;
};
const seatsOf = (...guards: readonly BunGuard[]): number[] =>
  guards.map(({ manager }) => manager.snapshot().totalConnections);
const openIn = (...guards: readonly BunGuard[]): number[] =>
  guards.map((guard) => guard.snapshot().websockets.open);

describe.skipIf(!BUN)('two guards of one Bun.serve', () => {
  it('around each other both hold: seats, rates of messages and pings', async () => {
    const outer = guarded({ limits: { maxTotalConnections: 2, controlRate: Infinity } });
    const inner = guarded({
      limits: {
        maxConnectionsPerIp: 1,
        messageRate: { limit: 2, windowMs: 60_000, action: 'drop' },
        controlRate: { limit: 2, windowMs: 60_000, action: 'drop' },
      },
    });
    let messages = 0;
    let pings = 0;
    const { port } = serve({
      fetch: outer.fetch(inner.fetch(upgrade as never)),
      websocket: outer.websocket(
        inner.websocket({
          message: (ws: Bun.ServerWebSocket<undefined>) => void (messages++, ws.send('a')),
          ping: () => void pings++,
        }),
      ),
    });
    const client = await open(port);
    await until(() => openIn(outer, inner).join() === '1,1');
    expect([seatsOf(outer, inner), (await open(port)).status]).toEqual([[1, 1], 429]);
    client.socket.write(Buffer.concat([1, 1, 1, 1, 9, 9, 9, 9].map((code) => frame(code, 'x'))));
    await until(() => client.opcodes().filter((opcode) => opcode === 10).length === 4);
    const figuresOf = ({ manager }: BunGuard): unknown =>
      [...manager.connections.values()].map((one) => [one.messageCount, one.bytesSent]);
    expect([messages, pings, figuresOf(outer), figuresOf(inner)]).toEqual([
      2,
      2,
      [[4, 2]],
      [[4, 2]],
    ]);
    client.socket.destroy();
    await until(() => seatsOf(outer, inner).join() === '0,0');
    expect(openIn(outer, inner)).toEqual([0, 0]);
    expect((await open(port)).status).toBe(101);
  });

  it('both seat a socket whose opening ends another one, which opens a third', async () => {
    const outer = guarded({
      limits: { maxConnectionsPerUser: 1 },
      onFull: 'closeOldest',
      identify: ({ url }) => new URL(url).searchParams.get('user') ?? undefined,
    });
    const inner = guarded({ limits: {} });
    let openOther = (): unknown => undefined;
    let ended = 0;
    const handle = (
      request: Request,
      server: Bun.Server<undefined>,
    ): Response | undefined | Promise<Response | undefined> => {
      if (!request.url.endsWith('/waiting')) return upgrade(request, server);
      return new Promise((resolve) => {
        openOther = () => {
          server.upgrade(request);
          resolve(undefined);
        };
      });
    };
    const { port } = serve({
      fetch: outer.fetch(inner.fetch(handle as never)),
      websocket: outer.websocket(
        inner.websocket({
          message: () => undefined,
          close: () => void (ended++ === 0 && openOther()),
        }),
      ),
    });
    await open(port, '/?user=ann');
    const waiting = open(port, '/waiting');
    await until(() => seatsOf(outer, inner).join() === '2,2');
    const clients = await Promise.all([waiting, open(port, '/?user=ann')]);
    await until(() => openIn(outer, inner).join() === '2,2');
    expect(seatsOf(outer, inner)).toEqual([2, 2]);
    for (const { socket } of clients) socket.destroy();
    await until(() => seatsOf(outer, inner).join() === '0,0');
  });

  it('of single routes hold for their own route, whichever comes first', async () => {
    const guards = [1, 2].map(() => guarded({ limits: { maxConnectionsPerIp: 2 } }));
    const [first, second] = guards as [BunGuard, BunGuard];
    let messages = 0;
    const { port } = serve({
      routes: { '/a': first.fetch(upgrade as never), '/b': second.fetch(upgrade as never) },
      fetch: upgrade,
      websocket: first.websocket(second.websocket({ message: () => void messages++ })),
    });
    const inB = [await open(port, '/b'), await open(port, '/b')];
    await until(() => openIn(...guards).join() === '0,2');
    const inA = [await open(port, '/a'), await open(port, '/a')];
    await until(() => openIn(...guards).join() === '2,2');
    expect([(await open(port, '/a')).status, (await open(port, '/b')).status]).toEqual([429, 429]);
    for (const { socket } of [...inA, ...inB]) socket.write(frame(1, 'x'));
    await until(() => messages === 4);
    for (const { socket } of inB) socket.destroy();
    await until(() => seatsOf(...guards).join() === '2,0');
    for (const { socket } of inA) socket.destroy();
    await until(() => seatsOf(...guards).join() === '0,0');
  });

  it('judge a socket of a guard whose handlers do not run', async () => {
    const stranger = guarded({ limits: {} });
    const guard = guarded({ limits: { maxConnectionsPerIp: 0, maxClosingPerIp: 1 } });
    const { port } = serve({
      fetch: stranger.fetch(upgrade as never),
      websocket: guard.websocket({ message: () => undefined }),
    });
    const client = await open(port);
    await until(() => client.code() === 1008);
    expect(seatsOf(stranger, guard)).toEqual([0, 0]);
  });

  it('refuse a socket by close code, and no handler hears of it', async () => {
    const heard: string[] = [];
    const handlers = Object.fromEntries(
      ['open', 'message', 'ping', 'close'].map((name) => [name, () => void heard.push(name)]),
    );
    const outer = guarded({ limits: {} });
    const inner = guarded({
      limits: { maxTotalConnections: 0, maxClosingConnections: 1 },
      refuseWith: 'close',
    });
    const { port } = serve({
      fetch: outer.fetch(inner.fetch(upgrade as never)),
      websocket: outer.websocket(inner.websocket(handlers)),
    });
    const client = await open(port);
    client.socket.write(Buffer.concat([frame(1, 'x'), frame(9)]));
    await until(() => client.code() === 1013);
    client.socket.destroy();
    await until(() => seatsOf(outer, inner).join() === '0,0');
    expect(heard).toEqual([]);
  });

  it('give the seats of their sockets back after others have replaced them', async () => {
    const both = (): { readonly guards: BunGuard[]; readonly options: object } => {
      const guards = [guarded({ limits: {} }), guarded({ limits: {} })] as const;
      const [outer, inner] = guards;
      return {
        guards: [...guards],
        options: {
          fetch: outer.fetch(inner.fetch(upgrade as never)),
          websocket: outer.websocket(inner.websocket({ message: () => undefined })),
        },
      };
    };
    const former = both();
    const server = serve(former.options);
    const client = await open(server.port);
    await until(() => openIn(...former.guards).join() === '1,1');
    const later = both();
    server.reload(later.options);
    client.socket.write(frame(1, 'x'));
    const messagesOf = (guard: BunGuard): number =>
      [...guard.manager.connections.values()].reduce((sum, one) => sum + one.messageCount, 0);
    await until(() => messagesOf(former.guards[0]!) > 0);
    client.socket.destroy();
    await until(() => seatsOf(...former.guards, ...later.guards).join() === '0,0,0,0');
    expect(openIn(...former.guards)).toEqual([0, 0]);
  });

  it('are two: one guard wraps handlers once', () => {
    const guard = guarded({ limits: {} });
    const handlers = { ...guard.websocket({}) };
    expect(() => guard.websocket(handlers)).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE', field: 'handlers' }),
    );
  });
});

it.skipIf(!BUN)('handlers and options may stand on the prototype of a class', async () => {
  class Handlers {
    readonly seen: string[] = [];
    get idleTimeout(): number {
      return 7;
    }
    open(ws: Bun.ServerWebSocket<undefined>): void {
      ws.send(connectionOf(ws) === undefined ? 'unguarded' : 'guarded');
    }
    message(): void {}
    drain(): void {}
  }
  const guard = guarded({ limits: {} });
  const handlers = guard.websocket(new Handlers());
  expect([handlers.idleTimeout, handlers.drain]).toEqual([7, Handlers.prototype.drain]);
  const { port } = serve({ fetch: guard.fetch(upgrade as never), websocket: handlers });
  const client = await open(port);
  await until(() => client.opcodes().includes(1));
});
