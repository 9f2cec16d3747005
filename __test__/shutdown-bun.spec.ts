import { connect, type ClientHttp2Session } from 'node:http2';
import { once } from 'node:events';
import { afterEach, describe, expect, it } from 'vitest';
import { GracefulShutdown } from '../dist/index.js';
import { portcullis } from '../dist/bun.js';
import { TLS } from '../rolling/certificate.mjs';
import { until } from './fixtures/until.js';

// HTTP/2 of `Bun.serve`, an option of Bun that it calls experimental. Node has no such server.
const BUN = 'bun' in process.versions;
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** A guarded server: `/held` is answered by `release()`, `/events` ends with the drain, everything else at once. */
function start(scheme: 'https' | 'http') {
  const guard = portcullis({ limits: {}, requests: {} });
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const seen: string[] = [];
  const events = (): Response =>
    new Response(
      new ReadableStream({
        start(controller) {
          controller.enqueue('data: hello\n\n');
          guard.draining.addEventListener('abort', () => {
            controller.enqueue('event: bye\n\n');
            controller.close();
          });
        },
      }),
    );
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    http2: true,
    ...(scheme === 'https' ? { tls: TLS } : {}),
    fetch: guard.fetch(async (request: Request) => {
      const { pathname } = new URL(request.url);
      seen.push(pathname);
      if (pathname === '/events') return events();
      if (pathname === '/held') await held;
      return new Response(pathname.slice(1));
    }),
    websocket: guard.websocket({ message: () => undefined }),
  });
  ends.push(() => {
    void server.stop(true);
    guard.close();
  });
  return { guard, server, release, seen };
}

function sessionOf(scheme: string, port: number | undefined): ClientHttp2Session {
  const session = connect(`${scheme}://127.0.0.1:${port}`, { ca: TLS.cert });
  session.on('error', () => undefined);
  ends.push(() => session.destroy());
  return session;
}

/** Sends a request: its status, its body, and whether it has a header that HTTP/2 forbids (RFC 9113, 8.2.2). */
async function ask(
  session: ClientHttp2Session,
  path: string,
): Promise<readonly [number | undefined, string, boolean]> {
  const stream = session.request({ ':path': path });
  const answered = once(stream, 'response') as Promise<[Record<string, unknown>]>;
  stream.setEncoding('utf8');
  let body = '';
  for await (const chunk of stream) body += chunk;
  const [head] = await answered;
  return [head[':status'] as number, body, 'connection' in head];
}

describe.skipIf(!BUN).each(['https', 'http'] as const)(
  'HTTP/2 of Bun.serve by %s (Node has no Bun.serve)',
  (scheme) => {
    it('is served until the drain, which sends GOAWAY; streams under way finish', async () => {
      const { guard, server, release, seen } = start(scheme);
      const session = sessionOf(scheme, server.port);
      expect(await ask(session, '/one')).toEqual([200, 'one', false]);
      const held = ask(session, '/held');
      const events = ask(session, '/events');
      await until(() => seen.length === 3);
      const goaway = once(session, 'goaway') as Promise<[number, number]>;
      const phases: string[] = [];
      const shutdown = new GracefulShutdown({
        preDrainDelayMs: 150,
        onPhase: (phase) => void phases.push(phase),
      }).add(guard.drainable(server));
      const result = shutdown.shutdown();
      // The session goes on while the server is not ready, and so do new ones.
      expect(await ask(session, '/two')).toEqual([200, 'two', false]);
      expect(await ask(sessionOf(scheme, server.port), '/three')).toEqual([200, 'three', false]);
      expect(phases).toEqual(['notReady']);
      expect((await goaway)[0]).toBe(0);
      expect(phases).toEqual(['notReady', 'draining']);
      expect(await events).toEqual([200, 'data: hello\n\nevent: bye\n\n', false]);
      release();
      expect(await held).toEqual([200, 'held', false]);
      expect(await result).toMatchObject({
        graceful: true,
        requestsAborted: 0,
        leftovers: [],
        hookErrors: [],
      });
      expect(seen).toEqual(['/one', '/held', '/events', '/two', '/three']);
    });

    it('says so if a stream was cut off at the deadline', async () => {
      const { guard, server, seen } = start(scheme);
      const session = sessionOf(scheme, server.port);
      let isAnswered = false;
      const stream = session.request({ ':path': '/held' });
      stream.on('response', () => (isAnswered = true)).on('error', () => undefined);
      const closed = once(stream.resume(), 'close');
      await until(() => seen.length === 1);
      const result = await new GracefulShutdown({ preDrainDelayMs: 0, deadlineMs: 400 })
        .add(guard.drainable(server))
        .shutdown();
      expect(result).toMatchObject({ graceful: false, requestsAborted: 1 });
      await closed;
      expect(isAnswered).toBe(false);
    });
  },
);
