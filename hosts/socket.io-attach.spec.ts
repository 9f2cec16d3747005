import { once } from 'node:events';
import { createServer, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from 'socket.io';
import { io as connect, type Socket } from 'socket.io-client';
import { afterEach, describe, expect, it } from 'vitest';
import { connectionOf, portcullis, type SocketIoServer } from '../dist/socket.io.js';

const clients: Socket[] = [];
const servers: Server[] = [];
afterEach(async () => {
  for (const client of clients.splice(0)) client.disconnect();
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

function serve(httpServer?: HttpServer, options = {}): Server {
  const server = httpServer === undefined ? new Server(options) : new Server(httpServer, options);
  servers.push(server);
  return server;
}

async function portOf(httpServer: HttpServer): Promise<number> {
  if (!httpServer.listening) {
    httpServer.listen(0, '127.0.0.1');
    await once(httpServer, 'listening');
  }
  return (httpServer.address() as AddressInfo).port;
}

/** Connects a client: `connect`, or the status of its refusal. */
async function outcome(port: number): Promise<unknown> {
  const client = connect(`http://127.0.0.1:${port}`, {
    forceNew: true,
    reconnection: false,
    transports: ['polling'],
  });
  clients.push(client);
  return new Promise((resolve) => {
    client.once('connect', () => resolve('connect'));
    client.once('connect_error', (error) =>
      resolve((error as Error & { description?: unknown }).description),
    );
  });
}

describe('socket.io', () => {
  it('guards a server that gets its engine later, and one that is attached already', async () => {
    const guard = portcullis({ limits: { maxConnectionsPerIp: 1 } });
    const httpServer = createServer();
    const later = serve();
    guard.attach(later);
    later.attach(httpServer);
    const port = await portOf(httpServer);
    expect([await outcome(port), await outcome(port)]).toEqual(['connect', 429]);
    guard.close();
  });

  it('is undone: sessions that are open keep their seats, new ones take none', async () => {
    const guard = portcullis({
      limits: { maxConnectionsPerIp: 1 },
      websockets: { maxMessageSize: 10 },
    });
    const httpServer = createServer();
    const io = serve(httpServer);
    const own = { ...io.engine, emit: io.engine.emit, handleRequest: io.engine.handleRequest };
    const { bind } = io;
    const undo = guard.attach(io);
    const port = await portOf(httpServer);
    expect(await outcome(port)).toBe('connect');
    undo();
    undo();
    expect(io.bind).toBe(bind);
    expect(io.engine.emit).toBe(own.emit);
    expect(io.engine.handleRequest).toBe(own.handleRequest);
    expect(Object.hasOwn(io.engine, 'handleUpgrade')).toBe(false);
    expect(io.engine.opts.maxHttpBufferSize).toBe(1e6);
    expect([await outcome(port), await outcome(port)]).toEqual(['connect', 'connect']);
    expect(guard.manager.getStats().totalConnections).toBe(1);
    const again = guard.attach(io);
    expect(await outcome(port)).toBe(429);
    again();
    clients[0]?.disconnect();
    await expect.poll(() => guard.manager.getStats().totalConnections).toBe(0);
    guard.close();
  });

  it('knows the connection of a socket and of its engine socket', async () => {
    const guard = portcullis({ limits: {} });
    const httpServer = createServer();
    const io = serve(httpServer);
    guard.attach(io);
    const seen = new Promise<unknown[]>((resolve) => {
      io.on('connection', (socket) =>
        resolve([connectionOf(socket)?.id, connectionOf(socket.conn)?.id, socket.conn.id]),
      );
    });
    await outcome(await portOf(httpServer));
    const [first, second, id] = await seen;
    expect([first, second]).toEqual([id, id]);
    expect(connectionOf({})).toBeUndefined();
    guard.close();
  });

  it('listens while it drains, until the last session has ended', async () => {
    const guard = portcullis({ limits: {} });
    const httpServer = createServer();
    const io = serve(httpServer);
    guard.attach(io);
    const drainable = guard.drainable(httpServer);
    const port = await portOf(httpServer);
    expect(await outcome(port)).toBe('connect');
    const [client] = clients;
    drainable.drain?.();
    const idle = drainable.whenIdle?.();
    expect(await outcome(port)).toBe(503);
    expect([httpServer.listening, client?.connected]).toEqual([true, true]);
    const closed = new Promise(
      (resolve) => void io.sockets.sockets.forEach((socket) => socket.on('last', resolve)),
    );
    client?.emit('last');
    await closed;
    client?.disconnect();
    await idle;
    expect(httpServer.listening).toBe(false);
    guard.close();
  });

  it('refuses what it cannot guard', () => {
    const guard = portcullis({ limits: {} });
    const io = serve(createServer());
    const undo = guard.attach(io);
    expect(() => guard.attach(io)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    const other = portcullis({ limits: {} });
    expect(() => other.attach(io)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    undo();
    other.attach(io)();
    for (const wrong of [undefined, null, 1, {}, io.engine, createServer()]) {
      expect(() => guard.attach(wrong as unknown as SocketIoServer)).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'io' }),
      );
    }
    const bind = (): void => undefined;
    expect(() => guard.attach({ bind, engine: {} })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE', field: 'io.engine' }),
    );
    expect(() => guard.attach({ bind, engine: { abortRequest: bind } })).toThrow(
      expect.objectContaining({ code: 'ERR_UNSUPPORTED', field: 'io' }),
    );
    guard.close();
    other.close();
  });

  it('seats sessions of WebTransport, whose address the engine does not know', async () => {
    const guard = portcullis({ limits: { maxUnknownIpConnections: 1 } });
    const io = serve(createServer(), { transports: ['polling', 'websocket', 'webtransport'] });
    guard.attach(io);
    let announced = 0;
    io.engine.on('connection', () => announced++);
    const open = (): { readonly closed: boolean } => {
      const state = { closed: false };
      const { readable } = new TransformStream<Uint8Array, Uint8Array>({
        // The header of a packet of one byte, and its type: `open`.
        start: (controller) => controller.enqueue(new Uint8Array([1, 0x30])),
      });
      const { writable } = new TransformStream<Uint8Array, Uint8Array>();
      const incomingBidirectionalStreams = new ReadableStream({
        start: (controller) => controller.enqueue({ readable, writable }),
      });
      void io.engine.onWebTransportSession({
        incomingBidirectionalStreams,
        closed: new Promise(() => undefined),
        close: () => (state.closed = true),
      });
      return state;
    };
    open();
    await expect.poll(() => guard.manager.getStats().totalConnections).toBe(1);
    open();
    await expect.poll(() => guard.manager.snapshot().refused.unknown_ip_limit ?? 0).toBe(1);
    expect([announced, io.engine.clientsCount]).toEqual([1, 1]);
    await io.close();
    servers.length = 0;
    expect(guard.manager.getStats().totalConnections).toBe(0);
    guard.close();
  });
});
