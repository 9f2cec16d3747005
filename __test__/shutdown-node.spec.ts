import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { Agent, createServer, get as httpGet, type IncomingMessage, type Server } from 'node:http';
import { Agent as TlsAgent, createServer as createTlsServer, get as httpsGet } from 'node:https';
import {
  connect as connectHttp2,
  createSecureServer,
  createServer as createHttp2,
} from 'node:http2';
import { connect, createServer as createFront } from 'node:net';
import type { AddressInfo, NetConnectOpts } from 'node:net';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket, { WebSocketServer } from 'ws';
import { GracefulShutdown } from '../dist/index.js';
import { portcullis, signalOf } from '../dist/ws.js';
import { until } from './fixtures/until.js';
import { TLS } from '../rolling/certificate.mjs';

// Node's three servers in this process: the parser of https follows the TLS socket, and HTTP/2 shows
// a stream as the socket of a request. Bun's own servers have no such sockets.
const BUN = 'bun' in process.versions;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

const HOSTS: Record<string, () => Server> = {
  http: () => createServer(),
  https: () => createTlsServer(TLS) as unknown as Server,
  'HTTP/2 with allowHTTP1': () =>
    createSecureServer({ ...TLS, allowHTTP1: true }) as unknown as Server,
};

/** A guarded server: `/held` is answered by `release()`, `/events` ends with the drain, everything else at once. */
async function start(make: () => Server, requests = {}, path?: string) {
  const guard = portcullis({ limits: {}, requests });
  const server = make();
  let release: () => void = () => undefined;
  let arrived: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const isHeld = new Promise<void>((resolve) => (arrived = resolve));
  server.on(
    'request',
    guard.request((request, response) => {
      if (request.url === '/events') {
        const end = () => response.end('event: bye\ndata:\n\n');
        guard.draining.addEventListener('abort', end);
        response.once('close', () => guard.draining.removeEventListener('abort', end));
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        return response.write('data: hello\n\n');
      }
      if (request.url !== '/held') return response.end('ok');
      arrived();
      expect(signalOf(request)?.aborted).toBe(false);
      void held.then(() => response.end('held'));
    }),
  );
  const drainable = guard.drainable(server);
  guard.attach(server, new WebSocketServer({ noServer: true }));
  if (path === undefined) server.listen(0, '127.0.0.1');
  else server.listen(path);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  ends.push(() => {
    guard.close();
    server.close();
  });
  return { server, guard, drainable, port, release, isHeld };
}

/** Sends a request: its status, its body, and its header `Connection`. */
async function ask(scheme: string, port: number, path: string, agent: Agent | TlsAgent) {
  const url = `${scheme}://127.0.0.1:${port}${path}`;
  const [response] = (await once(
    scheme === 'http'
      ? httpGet(url, { agent: agent as Agent })
      : httpsGet(url, { agent: agent as TlsAgent, ca: TLS.cert }),
    'response',
  )) as [IncomingMessage];
  let body = '';
  for await (const chunk of response) body += chunk;
  return [response.statusCode, body, response.headers.connection];
}

const connectionsOf = (server: Server): Promise<number> =>
  new Promise((resolve) => server.getConnections((_error, count) => resolve(count)));

const agentFor = (scheme: string): Agent | TlsAgent => {
  const agent = new (scheme === 'http' ? Agent : TlsAgent)({ keepAlive: true, maxSockets: 1 });
  ends.push(() => agent.destroy());
  return agent;
};

describe.skipIf(BUN).each(Object.entries(HOSTS))(
  '%s on Node (Bun has no such sockets)',
  (name, make) => {
    const scheme = name === 'http' ? 'http' : 'https';

    it('finishes requests under way and closes WebSockets by handshake', async () => {
      const { drainable, port, release, isHeld } = await start(make);
      const shutdown = new GracefulShutdown({ preDrainDelayMs: 0, drainWindowMs: 0 }).add(
        drainable,
      );
      const client = new WebSocket(`${scheme === 'http' ? 'ws' : 'wss'}://127.0.0.1:${port}/`, {
        ca: TLS.cert,
      });
      await once(client, 'open');
      const code = once(client, 'close').then(([one]) => one as number);
      const answer = ask(scheme, port, '/held', agentFor(scheme));
      await isHeld;
      // A connection that never shakes hands does not keep the server.
      const silent = connect(port, '127.0.0.1');
      await once(silent, 'connect');
      const gone = once(silent.resume(), 'close');
      const result = shutdown.shutdown();
      expect(await code).toBe(1001);
      release();
      expect(await answer).toEqual([200, 'held', 'close']);
      expect(await result).toMatchObject({
        graceful: true,
        requestsAborted: 0,
        websocketsClosed: { acknowledged: 1, forced: 0 },
        hookErrors: [],
      });
      await gone;
    });

    it('says so if a request and a WebSocket were cut off at the deadline', async () => {
      const { drainable, port, isHeld } = await start(make);
      const client = new WebSocket(`${scheme === 'http' ? 'ws' : 'wss'}://127.0.0.1:${port}/`, {
        ca: TLS.cert,
      });
      await once(client, 'open');
      const closed = once(client, 'close').then(([code]) => code as number);
      const cut = ask(scheme, port, '/held', agentFor(scheme)).catch(() => 'cut off');
      await isHeld;
      const shutdown = new GracefulShutdown({
        preDrainDelayMs: 0,
        drainWindowMs: 0,
        closeTimeoutMs: 500,
        deadlineMs: 700,
        closeCode: 1012,
      });
      const result = await shutdown.add(drainable).shutdown();
      expect(result).toMatchObject({
        graceful: false,
        requestsAborted: 1,
        websocketsClosed: { acknowledged: 1, forced: 0 },
      });
      expect([await cut, await closed]).toEqual(['cut off', 1012]);
    });

    it('tells an endless response that it drains', async () => {
      const { drainable, guard, port } = await start(make);
      const shutdown = new GracefulShutdown({ preDrainDelayMs: 0 }).add(drainable);
      const url = `${scheme}://127.0.0.1:${port}/events`;
      const agent = agentFor(scheme);
      const [response] = (await once(
        scheme === 'http'
          ? httpGet(url, { agent: agent as Agent })
          : httpsGet(url, { agent: agent as TlsAgent, ca: TLS.cert }),
        'response',
      )) as [IncomingMessage];
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      await once(response, 'data');
      expect(guard.draining.aborted).toBe(false);
      const result = await shutdown.shutdown();
      expect(result).toMatchObject({ graceful: true, requestsAborted: 0, leftovers: [] });
      expect(result.totalMs).toBeLessThan(15_000);
      await (response.complete ? undefined : once(response, 'end'));
      expect(body).toBe('data: hello\n\nevent: bye\ndata:\n\n');
    });

    it('says `Connection: close` from notReady on, and ends no idle connection before', async () => {
      const { drainable, port } = await start(make);
      const shutdown = new GracefulShutdown({ preDrainDelayMs: 300 }).add(drainable);
      const agent = agentFor(scheme);
      expect(await ask(scheme, port, '/', agent)).toEqual([200, 'ok', 'keep-alive']);
      const result = shutdown.shutdown();
      // The kept connection carries one more answer, and newcomers have theirs.
      expect(await ask(scheme, port, '/', agent)).toEqual([200, 'ok', 'close']);
      expect(await ask(scheme, port, '/', agent)).toEqual([200, 'ok', 'close']);
      expect(await result).toMatchObject({ graceful: true, requestsAborted: 0, hookErrors: [] });
    });
  },
);

it.skipIf(BUN).each([
  ['TLS', HOSTS['HTTP/2 with allowHTTP1']!, 'https'],
  ['plain text', () => createHttp2() as unknown as Server, 'http'],
] as const)(
  'HTTP/2 over %s on Node (not on Bun): streams under way finish, GOAWAY tells the client, and refusals are answered',
  async (_name, make, scheme) => {
    const { drainable, port, release, isHeld } = await start(make, {
      maxConcurrent: 2,
    });
    const shutdown = new GracefulShutdown({ preDrainDelayMs: 200 }).add(drainable);
    const session = connectHttp2(`${scheme}://127.0.0.1:${port}`, { ca: TLS.cert });
    ends.push(() => session.destroy());
    const send = async (path: string): Promise<[number, string]> => {
      const stream = session.request({ ':path': path });
      const answered = once(stream, 'response') as Promise<[{ ':status': number }]>;
      stream.setEncoding('utf8');
      let body = '';
      for await (const chunk of stream) body += chunk;
      return [(await answered)[0][':status'], body];
    };
    const first = send('/held');
    const second = send('/held');
    await isHeld;
    // The end of one stream is not the end of the others.
    expect((await send('/'))[0]).toBe(503);
    const goaway = once(session, 'goaway');
    const result = shutdown.shutdown();
    await goaway;
    // A newcomer is served once, and then told, too.
    const other = connectHttp2(`${scheme}://127.0.0.1:${port}`, { ca: TLS.cert });
    ends.push(() => other.destroy());
    const told = once(other, 'goaway');
    const late = other.request({ ':path': '/' });
    const [head] = (await once(late.resume(), 'response')) as [{ ':status': number }];
    expect(head[':status']).toBe(503);
    await told;
    release();
    expect([await first, await second]).toEqual([
      [200, 'held'],
      [200, 'held'],
    ]);
    expect(await result).toMatchObject({ graceful: true, requestsAborted: 0, hookErrors: [] });
  },
);

describe.skipIf(BUN)('TLS on Node (Bun has no such sockets)', () => {
  const kept = async (to: NetConnectOpts, protocol: string) => {
    const socket = connectTls({
      ...to,
      ca: TLS.cert,
      host: 'localhost',
      ALPNProtocols: [protocol],
    });
    ends.push(() => socket.destroy());
    await once(socket, 'secureConnect');
    return socket;
  };

  const paths = process.platform === 'win32' ? [] : ['a Unix socket'];
  describe.each(['TCP', ...paths])('over %s', (over) => {
    const startHere = async () => {
      const folder = mkdtempSync(join(tmpdir(), 'portcullis-'));
      ends.push(() => rmSync(folder, { recursive: true }));
      const path = over === 'TCP' ? undefined : join(folder, 'socket');
      const server = await start(HOSTS['HTTP/2 with allowHTTP1']!, {}, path);
      const to = path === undefined ? { port: server.port, host: '127.0.0.1' } : { path };
      return { ...server, to };
    };

    it('ends every connection that is in its handshake, and none that carries a request', async () => {
      const { server, drainable, release, isHeld, to } = await startHere();
      const busy = await kept(to, 'http/1.1');
      busy.write('GET /held HTTP/1.1\r\nHost: x\r\n\r\n');
      const silent = [1, 2, 3].map(() => connect(to));
      await isHeld;
      await until(() => connectionsOf(server).then((count) => count === 4));
      const gone = Promise.all(silent.map((socket) => once(socket.resume(), 'close')));
      const closed = once(server, 'close');
      const result = new GracefulShutdown().add(drainable).shutdown();
      await gone;
      const answer = once(busy, 'data') as Promise<[Buffer]>;
      release();
      expect(String((await answer)[0])).toMatch(/^HTTP\/1.1 200 /);
      expect(await result).toMatchObject({ graceful: true, requestsAborted: 0, hookErrors: [] });
      await closed;
    });

    it('ends idle connections of HTTP/1 beside a session of HTTP/2', async () => {
      const { server, drainable, to } = await startHere();
      const under = await kept(to, 'h2');
      const session = connectHttp2('https://localhost', { createConnection: () => under });
      await once(session, 'remoteSettings');
      const idle = [await kept(to, 'http/1.1'), await kept(to, 'http/1.1')];
      const gone = Promise.all(idle.map((socket) => once(socket.resume(), 'close')));
      const closed = once(server, 'close');
      const result = new GracefulShutdown().add(drainable).shutdown();
      await gone;
      expect(await result).toMatchObject({ graceful: true, requestsAborted: 0, hookErrors: [] });
      await closed;
    });
  });

  it('lets the request finish on a stream that the application has handed over', async () => {
    const { server, drainable, release, isHeld } = await start(HOSTS['https']!);
    const front = createFront((socket) => {
      const through = Duplex.from({ readable: socket, writable: socket });
      server.emit('connection', through);
    }).listen(0, '127.0.0.1');
    ends.push(() => void front.close());
    await once(front, 'listening');
    const agent = agentFor('https');
    const answer = ask('https', (front.address() as AddressInfo).port, '/held', agent);
    await isHeld;
    const result = new GracefulShutdown().add(drainable).shutdown();
    release();
    expect((await answer).slice(0, 2)).toEqual([200, 'held']);
    expect(await result).toMatchObject({ graceful: true, requestsAborted: 0 });
  });
});

it('draining is one signal for all, which a late reader finds aborted', async () => {
  const read = portcullis({ limits: {} });
  const early = read.draining;
  const unread = portcullis({ limits: {} });
  ends.push(
    () => read.close(),
    () => unread.close(),
  );
  let heard = 0;
  early.addEventListener('abort', () => heard++);
  for (const guard of [read, unread]) await guard.drainable(createServer()).drain?.();
  expect([heard, early.aborted, read.draining === early]).toEqual([1, true, true]);
  expect(unread.draining.aborted).toBe(true);
  expect(unread.draining.reason).toMatchObject({ code: 'ERR_CLOSED' });
  // Draining again tells nobody again.
  await read.drainable(createServer()).drain?.();
  expect(heard).toBe(1);
});

it('onDrain is called for each socket before its close frame, and its error stops nothing', async () => {
  const warnings: Error[] = [];
  const onWarning = (warning: Error): void => void warnings.push(warning);
  process.on('warning', onWarning);
  ends.push(() => process.off('warning', onWarning));
  const guard = portcullis({
    limits: {},
    onDrain: ({ socket }) => {
      (socket as WebSocket).send('bye');
      throw new Error('a secret');
    },
  });
  const server = createServer();
  const drainable = guard.drainable(server);
  guard.attach(server, new WebSocketServer({ noServer: true }));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  ends.push(() => guard.close());
  const { port } = server.address() as AddressInfo;
  const clients = [1, 2].map(() => new WebSocket(`ws://127.0.0.1:${port}/`));
  const ended = clients.map(async (client) => {
    const heard: string[] = [];
    client.on('message', (data: Buffer) => heard.push(data.toString()));
    const [code] = (await once(client, 'close')) as [number];
    return [...heard, code];
  });
  for (const client of clients) if (client.readyState !== 1) await once(client, 'open');
  await until(() => guard.manager.total === 2);
  const result = await new GracefulShutdown({ preDrainDelayMs: 0, drainWindowMs: 0 })
    .add(drainable)
    .shutdown();
  expect(await Promise.all(ended)).toEqual([
    ['bye', 1001],
    ['bye', 1001],
  ]);
  expect(result).toMatchObject({ graceful: true, hookErrors: [] });
  // The first error of a hook is a warning, without its text.
  await until(() => warnings.length > 0);
  expect(warnings.map(({ message }) => message)).toEqual([
    expect.stringMatching(/^onDrain failed/) as string,
  ]);
});

/**
 * Runs a script that answers each signal with a line.
 * @returns its output, and its exit code or the signal that ended it
 */
async function signalled(
  script: string,
  ...signals: NodeJS.Signals[]
): Promise<[string, number | string | null]> {
  const text = `import { GracefulShutdown } from './dist/index.js';
    setInterval(() => 0, 1000);
    ${script}`;
  const child = spawn(process.execPath, BUN ? ['-e', text] : ['--input-type=module', '-e', text], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  ends.push(() => child.kill('SIGKILL'));
  const closed = once(child, 'close');
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    // Each line is the answer to the last signal.
    const next = signals.shift();
    if (next !== undefined) child.kill(next);
  });
  const [code, signal] = (await closed) as [number | null, string | null];
  return [out.replaceAll('\n', ' ').trim(), code ?? signal];
}

describe('a signal', () => {
  const HELD = `
    const shutdown = new GracefulShutdown({ signals: ['SIGTERM', 'SIGTERM'], preDrainDelayMs: 0 });
    let end;
    shutdown.onShutdown('slow', () => new Promise((resolve) => (end = resolve)));
    process.on('SIGUSR2', () => end());`;

  it('is the first one after shutdown(): does not exit at once, but a second one does', async () => {
    const script = `${HELD}
      void shutdown.shutdown('preStop');
      process.on('SIGTERM', () => console.log('signal'));
      console.log('begun');`;
    expect(await signalled(script, 'SIGTERM', 'SIGUSR2')).toEqual(['begun signal', 0]);
    expect(await signalled(script, 'SIGTERM', 'SIGTERM')).toEqual(['begun signal', 143]);
  });

  it('that is named twice is one signal', async () => {
    const script = `${HELD}
      process.on('SIGTERM', () => console.log('signal'));
      console.log('ready');`;
    expect(await signalled(script, 'SIGTERM', 'SIGUSR2')).toEqual(['ready signal', 0]);
  });

  it('that comes after a shutdown has ended lets the process exit with its result', async () => {
    const script = (fails: boolean): string => `
      const shutdown = new GracefulShutdown({ signals: ['SIGTERM'], preDrainDelayMs: 0 });
      shutdown.onShutdown('hook', () => { if (${fails}) throw new Error('failed'); });
      const { graceful } = await shutdown.shutdown('preStop');
      console.log(graceful);`;
    expect(await signalled(script(false), 'SIGTERM')).toEqual(['true', 0]);
    expect(await signalled(script(true), 'SIGTERM')).toEqual(['false', 1]);
  });

  it('waits for every shutdown that it has begun', async () => {
    const script = (fails: boolean, exit = true): string => `
      let end;
      new GracefulShutdown({ signals: ['SIGTERM'] }).onShutdown('quick', () => {
        console.log('quick');
        if (${fails}) throw new Error('failed');
      });
      new GracefulShutdown({ signals: ['SIGTERM'], exit: ${exit} })
        .onShutdown('slow', () => new Promise((resolve) => (end = resolve)))
        .onShutdown('first', () => undefined);
      process.on('SIGUSR2', () => setImmediate(() => { console.log('slow'); end(); }));
      console.log('ready');`;
    expect(await signalled(script(false), 'SIGTERM', 'SIGUSR2')).toEqual(['ready quick slow', 0]);
    expect(await signalled(script(true), 'SIGTERM', 'SIGUSR2')).toEqual(['ready quick slow', 1]);
    expect(await signalled(script(false, false), 'SIGTERM', 'SIGUSR2')).toEqual([
      'ready quick slow',
      0,
    ]);
  });

  it('has the result of its own shutdowns, and none of them exits with exit: false', async () => {
    const script = `
      const first = new GracefulShutdown({ signals: ['SIGUSR2'], exit: false, preDrainDelayMs: 0 });
      first.onShutdown('one', () => {
        throw new Error('failed');
      });
      // The result is that of the shutdown under way.
      process.on('SIGUSR2', () => first.shutdown().then(() => console.log('goes on')));
      new GracefulShutdown({ signals: ['SIGTERM'], preDrainDelayMs: 0 });
      console.log('ready');`;
    expect(await signalled(script, 'SIGUSR2', 'SIGTERM')).toEqual(['ready goes on', 0]);
  });
});

it.skipIf(BUN)(
  'requests that one connection has sent without waiting are all answered',
  async () => {
    const { drainable, port, release, isHeld } = await start(HOSTS['http']!);
    const client = connect(port, '127.0.0.1');
    let seen = '';
    client.setEncoding('utf8').on('data', (text: string) => (seen += text));
    const request = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n`;
    client.write(request('/held') + request('/held'));
    await isHeld;
    await until(() => (drainable.requests?.() ?? 0) === 2);
    const ending = new GracefulShutdown({ preDrainDelayMs: 50 }).add(drainable).shutdown();
    // The third one comes while the server is not ready.
    client.write(request('/held'));
    await until(() => (drainable.requests?.() ?? 0) === 3);
    release();
    await once(client, 'close');
    expect(await ending).toMatchObject({ graceful: true, requestsAborted: 0 });
    expect(seen.match(/\r\n\r\nheld|^4\r\nheld/gm) ?? seen).toHaveLength(3);
    expect(seen.match(/connection: (?:close|keep-alive)/gi)).toEqual([
      'Connection: keep-alive',
      'Connection: keep-alive',
      'Connection: close',
    ]);
  },
);
