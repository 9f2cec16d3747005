import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import type { PageSnapshot } from '../dist/index.js';
import { pause, until } from './fixtures/until.js';
import { SERVERS, type Server, cleanUp, start, startAlone } from './servers/start.js';

// The page on a real server of every adapter.
afterEach(cleanUp);

const page = { path: '/portcullis', access: 'local', showClients: true };

const snapshot = async (server: Server): Promise<PageSnapshot> =>
  JSON.parse(await server.get('/portcullis/snapshot')) as PageSnapshot;

const PRODUCTION = { NODE_ENV: 'production' };

/** Opens the stream of figures and waits for the first snapshot. */
async function watch(
  server: Server,
): Promise<{ readonly seen: () => string; readonly closed: Promise<string> }> {
  const viewer = server.raw(
    'GET /portcullis/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n',
  );
  await until(() => viewer.seen().includes('event: snapshot'));
  return viewer;
}

it('a server of the builder shows its chain, and serves the page before limits and layers', async () => {
  const server = await startAlone(['node_modules/.bin/bun', '__test__/servers/builder.ts'], {
    page,
    limits: { requests: { maxConcurrent: 1 } },
  });
  await server.get('/hello');
  const viewer = await watch(server);
  await expect
    .poll(async () => (await snapshot(server)).layers?.map(({ name, count }) => [name, count]), {
      timeout: 5000,
    })
    .toEqual([
      ['outer', 1],
      ['gate', 1],
    ]);
  // The viewer does not count as a request in flight.
  expect(await server.get('/hello')).toBe('hello from /hello');
  expect(
    (await fetch(`http://127.0.0.1:${server.port}/portcullis`)).headers.get('x-outer'),
  ).toBeNull();
  server.process.kill('SIGTERM');
  expect(await viewer.closed).toContain('"state":"draining"');
});

describe.each(Object.entries(SERVERS))('a server with the adapter for %s', (_name, command) => {
  it('has no page by default', async () => {
    const server = await start(command, { limits: {} });
    for (const path of ['/portcullis', '/portcullis/events', '/portcullis/snapshot'])
      expect(await server.get(path)).not.toMatch(/<!doctype|event:|"version":1/);
  });

  it('shows its connections once a second, and serves everything else as before', async () => {
    const server = await start(command, { limits: { maxConnectionsPerIp: 2 }, page });
    await server.open();
    await server.open();
    expect((await server.handshake()).status).toBe(429);
    const viewer = await watch(server);
    const document = await fetch(`http://127.0.0.1:${server.port}/portcullis`);
    expect([document.status, document.headers.get('content-type')]).toEqual([
      200,
      'text/html; charset=utf-8',
    ]);
    expect(document.headers.get('content-security-policy')).toContain("default-src 'none'");
    await expect
      .poll(async () => (await snapshot(server)).connections.states?.active, { timeout: 5000 })
      .toBe(2);
    const { connections, refusals, server: told } = await snapshot(server);
    expect([connections.total, connections.topAddresses, refusals, told.viewers]).toEqual([
      2,
      [{ key: '127.0.0.1', count: 2 }],
      [{ name: 'ip_limit', count: 1 }],
      1,
    ]);
    await expect
      .poll(() => viewer.seen().split('event: snapshot').length, { timeout: 5000 })
      .toBeGreaterThanOrEqual(4);
    expect(await server.total()).toBe(2);
    const posted = await fetch(`http://127.0.0.1:${server.port}/portcullis`, {
      method: 'POST',
      body: 'x',
    });
    expect(posted.status).toBe(405);
  });

  it('serves the page when it refuses requests, but not through a proxy', async () => {
    const server = await start(command, {
      limits: { maxTotalConnections: 0 },
      requests: { maxConcurrent: 0 },
      page,
    });
    expect((await fetch(`http://127.0.0.1:${server.port}/stats`)).status).toBe(503);
    expect((await fetch(`http://127.0.0.1:${server.port}/portcullis`)).status).toBe(200);
    expect(
      (
        await fetch(`http://127.0.0.1:${server.port}/portcullis`, {
          headers: { 'x-forwarded-for': '192.0.2.1' },
        })
      ).status,
    ).toBe(403);
    const { refusals } = await snapshot(server);
    expect(refusals).toEqual([{ name: 'request: too_many_requests_in_flight', count: 1 }]);
  });

  it('requires the token if one is set', async () => {
    const server = await start(command, {
      limits: {},
      page: { path: '/portcullis', token: 'correct-horse-battery' },
    });
    const status = async (headers: Record<string, string>): Promise<number> =>
      (await fetch(`http://127.0.0.1:${server.port}/portcullis/snapshot`, { headers })).status;
    expect(await status({})).toBe(401);
    expect(await status({ authorization: 'Bearer correct-horse-batterx' })).toBe(401);
    expect(await status({ authorization: 'Bearer correct-horse-battery' })).toBe(200);
    const link = await fetch(
      `http://127.0.0.1:${server.port}/portcullis?token=correct-horse-battery`,
      { redirect: 'manual' },
    );
    expect([link.status, link.headers.get('location')]).toEqual([303, '/portcullis']);
    const cookie = link.headers.get('set-cookie')!.split(';', 1)[0]!;
    expect(cookie).toContain(`portcullis_page_${server.port}=`);
    expect(await status({ cookie })).toBe(200);
    expect(await status({ cookie: `${cookie}x` })).toBe(401);
  });

  it('needs its made token of a client of this machine, as behind a proxy that sends no header', async () => {
    const server = await start(command, { limits: {}, page: { path: '/portcullis' } });
    for (const path of ['/portcullis', '/portcullis/events', '/portcullis/snapshot'])
      expect([path, (await fetch(`http://127.0.0.1:${server.port}${path}`)).status]).toEqual([
        path,
        401,
      ]);
  });

  it('has no page in production without a token', async () => {
    const server = await startAlone(
      command,
      { limits: {}, page: { path: '/portcullis' } },
      PRODUCTION,
    );
    for (const path of ['/portcullis', '/portcullis/events', '/portcullis/snapshot'])
      expect(await server.get(path)).not.toMatch(/<!doctype|event:|"version":1|token/);
    const other = await startAlone(
      command,
      { limits: {}, page: { path: '/portcullis', token: 'correct-horse-battery' } },
      PRODUCTION,
    );
    expect((await fetch(`http://127.0.0.1:${other.port}/portcullis`)).status).toBe(401);
  });

  it('ends streams at a shutdown, so that viewers do not delay it', async () => {
    const server = await startAlone(command, {
      limits: {},
      requests: {},
      page,
      shutdown: { deadlineMs: 8000 },
    });
    const viewer = await watch(server);
    await server.open();
    const startMs = performance.now();
    const result = await server.end();
    expect(performance.now() - startMs).toBeLessThan(6000);
    expect(result).toMatchObject({ graceful: true, requestsAborted: 0, code: 0, unhandled: [] });
    expect(await viewer.closed).toContain('"state":"draining"');
  });

  it('frees the place of a viewer that disconnects silently', { timeout: 60_000 }, async () => {
    const server = await startAlone(command, { limits: {}, page: { ...page, maxViewers: 1 } });
    for (let i = 0; i < 3; i++) {
      let viewer = server.raw('GET /portcullis/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
      while (!viewer.seen().includes('event: snapshot')) {
        await pause(10);
        if (!viewer.seen().startsWith('HTTP/1.1 503')) continue;
        // The snapshot with 0 viewers is a second old: the place before was not free yet.
        viewer.socket.destroy();
        await pause(50);
        viewer = server.raw('GET /portcullis/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
      }
      viewer.socket.destroy();
      await expect
        .poll(
          async () => {
            const answer = await fetch(`http://127.0.0.1:${server.port}/portcullis/events`);
            await answer.body?.cancel();
            return answer.status;
          },
          { timeout: 10_000 },
        )
        .toBe(200);
      await expect
        .poll(async () => (await snapshot(server)).server.viewers, { timeout: 10_000 })
        .toBe(0);
    }
  });
});

/** Starts a server with a terminal, or with a pipe, in the place of its output. */
function startPrinting(
  [command, file]: readonly [string, string],
  isTerminal: boolean,
): { readonly printed: () => string } {
  const env = { ...process.env, GUARD_OPTIONS: '{"limits":{},"page":{"path":"/portcullis"}}' };
  const server = isTerminal
    ? spawn('script', ['-qefc', `${command} ${file}`, '/dev/null'], { env })
    : spawn(command, [file], { env });
  printing.push(server);
  let text = '';
  for (const stream of [server.stdout, server.stderr])
    stream.on('data', (data: Buffer) => (text += data.toString()));
  return { printed: () => text };
}
const printing: ChildProcess[] = [];
afterEach(async () => {
  for (const server of printing.splice(0)) {
    const ended = once(server, 'exit');
    server.kill('SIGTERM');
    await ended;
  }
});

const LINK = /the live page is at (http:\S+\/portcullis\?token=([\w-]{32}))/g;
const CLUSTER = ['node', '__test__/servers/page-cluster.mjs'] as const;
const hasScript = process.platform === 'linux' && existsSync('/usr/bin/script');
if (!hasScript) console.log('no script(1) of util-linux: links on a terminal are not tested');

describe.each([...Object.entries(SERVERS), ['a cluster', CLUSTER] as const])(
  'the link of the page with %s',
  (name, command) => {
    it('is printed to no pipe, which may be a log; a warning says how to set a token', async () => {
      const server = startPrinting(command, false);
      await until(() => server.printed().includes('page.token'));
      // The warning comes before anything else would.
      await pause(300);
      expect(server.printed()).toContain('Set page.token (16 to 512 visible ASCII characters)');
      expect(server.printed()).not.toMatch(/token=/);
    });

    it.skipIf(!hasScript)('is printed to a terminal, and works on every process', async () => {
      const server = startPrinting(command, true);
      const where = (): string | undefined => /listening on (http:\S+)/.exec(server.printed())?.[1];
      await until(() => where() !== undefined);
      await until(() => server.printed().includes('token='));
      const [[, link = ''] = [], ...more] = [...server.printed().matchAll(LINK)];
      expect([more, new URL(link).port]).toEqual([[], new URL(where()!).port]);
      const pids = new Set<number>();
      await expect
        .poll(
          async () => {
            const { port, pathname } = new URL(link);
            const base = `http://127.0.0.1:${port}`;
            // Connections of their own, which a cluster hands to its workers in turn.
            const close = { connection: 'close' };
            const answer = await fetch(link, { redirect: 'manual', headers: close });
            expect(answer.status).toBe(303);
            const cookie = answer.headers.get('set-cookie')!.split(';', 1)[0]!;
            const host = new URL(link).host;
            // Two more: a cluster of two would give the third to the worker of the first.
            for (let more = 0; more < 2; more++) {
              const seen = await fetch(`${base}${pathname}/snapshot`, {
                headers: { ...close, cookie, host },
              });
              expect(seen.status).toBe(200);
              pids.add(((await seen.json()) as PageSnapshot).server.pid);
            }
            return pids.size;
          },
          { interval: 10 },
        )
        .toBe(name === 'a cluster' ? 2 : 1);
    });
  },
);
