import { once } from 'node:events';
import { createServer } from 'node:http';
import http2 from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { WebSocketServer } from 'ws';
import {
  ConnectionManager,
  LivePage,
  type PageOptions,
  type PageSnapshot,
  PortcullisError,
  ProductionMetrics,
  ResourceMonitor,
  TimerManager,
} from '../dist/index.js';
import { Journal } from '../dist/page/journal.js';
import { ConnectionScan } from '../dist/page/connection-scan.js';
import { Guesses } from '../dist/page/guesses.js';
import { maskedNetwork } from '../dist/base/address.js';
import { masked, SHOWN } from '../dist/page/mask.js';
import { madeToken } from '../dist/page/token.js';
import { FakeSocket, ManualClock } from '../dist/testing.js';
import { portcullis as guardWs } from '../dist/ws.js';
import type { PageHistory } from '../ts/page/snapshot.js';

const TOKEN = 'correct-horse-battery';
const open: { close(): void }[] = [];
afterEach(() => {
  for (const one of open.splice(0)) one.close();
});

interface Set {
  readonly page: LivePage;
  readonly clock: ManualClock;
  readonly timers: TimerManager;
  readonly manager: ConnectionManager;
}

function setUp(options: Partial<PageOptions> = {}): Set {
  const clock = new ManualClock();
  const timers = new TimerManager({ clock });
  const manager = new ConnectionManager(
    { maxTotalConnections: 100, maxConnectionsPerIp: 5 },
    timers,
  );
  // Without a token of the test's own the figures matter, and not the access to them.
  const access = options.token === undefined ? ({ access: 'local' } as const) : {};
  const page = new LivePage(
    { path: '/live', showClients: true, ...access, ...options },
    { connections: manager, timers },
  );
  open.push(page, { close: () => manager.cleanup() });
  return { page, clock, timers, manager };
}

interface Asked {
  readonly path?: string;
  readonly peer?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

function ask(
  page: LivePage,
  { path = '/live', peer = '127.0.0.1', method = 'GET', headers = {} }: Asked = {},
): Response | undefined {
  return page.fetch(
    new Request(`http://localhost:3000${path}`, {
      method,
      headers: { host: 'localhost:3000', ...headers },
    }),
    peer,
  );
}

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;

/** Reads the events of a stream one at a time. */
function reader(response: Response | undefined): {
  next: (event: string) => Promise<unknown>;
  isOver: () => Promise<boolean>;
  cancel: () => Promise<void>;
} {
  const stream = response!.body!.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let text = '';
  const read = async (): Promise<boolean> => {
    const { done, value } = await stream.read();
    if (value !== undefined) text += new TextDecoder().decode(value);
    return done;
  };
  return {
    async next(event) {
      for (;;) {
        const found = new RegExp(`event: ${event}\\ndata: (.*)\\n\\n`).exec(text);
        if (found !== null) {
          text = text.slice(found.index + found[0].length);
          return JSON.parse(found[1]!);
        }
        if (await read()) throw new Error('the stream ended');
      }
    },
    async isOver() {
      for (;;) if (await read()) return true;
    },
    cancel: () => stream.cancel(),
  };
}

describe('access', () => {
  it("with access 'local' is limited to this machine, by its local names, not through a proxy", async () => {
    const { page } = setUp({ access: 'local' });
    for (const peer of ['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])
      expect([peer, ask(page, { peer })?.status]).toEqual([peer, 200]);
    for (const peer of [
      '10.0.0.1',
      '::ffff:10.0.0.1',
      '::2',
      '',
      '1127.0.0.1',
      '127.0.0.1.evil.example',
    ])
      expect([peer, ask(page, { peer })?.status]).toEqual([peer, 403]);
    for (const name of ['x-forwarded-for', 'forwarded', 'x-real-ip', 'via'])
      expect([name, ask(page, { headers: { [name]: '10.0.0.1' } })?.status]).toEqual([name, 403]);
    for (const host of ['127.0.0.1', '[::1]:3000', 'LOCALHOST', 'app.localhost:80'])
      expect([host, ask(page, { headers: { host } })?.status]).toEqual([host, 200]);
    for (const host of ['evil.example', 'localhost.evil.example:80', '127.0.0.1.evil.example', ''])
      expect([host, ask(page, { headers: { host } })?.status]).toEqual([host, 403]);
    const refused = ask(page, { peer: '10.0.0.1' });
    expect(await refused?.text()).toContain('page.token');
  });

  it('with a token is open to every machine that presents it', () => {
    const { page } = setUp({ token: TOKEN });
    const status = (authorization: string): number | undefined =>
      ask(page, { peer: '192.0.2.1', headers: { authorization, host: 'example.org' } })?.status;
    expect(status(`Bearer ${TOKEN}`)).toBe(200);
    expect(status(`bearer ${TOKEN}`)).toBe(200);
    expect(status(basic('anybody', TOKEN))).toBe(200);
    expect(status(basic('', TOKEN))).toBe(200);
    for (const wrong of [
      '',
      'Bearer',
      'Bearer ',
      `Bearer ${TOKEN}x`,
      `Bearer ${TOKEN.slice(1)}`,
      TOKEN,
      `Digest ${TOKEN}`,
      basic(TOKEN, ''),
      'Basic !!!',
      `Bearer ${'x'.repeat(100_000)}`,
    ]) {
      expect([wrong.slice(0, 40), status(wrong)]).toEqual([wrong.slice(0, 40), 401]);
    }
    expect(ask(page)?.status).toBe(401);
    const asked = ask(page);
    expect(asked?.headers.get('www-authenticate')).toContain('Basic');
  });

  it('is denied to pages of other sites, which take no place', () => {
    const { page } = setUp({ maxViewers: 1 });
    for (const path of ['/live/events', '/live/snapshot']) {
      for (const site of ['cross-site', 'same-site'])
        expect(ask(page, { path, headers: { 'sec-fetch-site': site } })?.status).toBe(403);
      for (const site of ['same-origin', 'none']) {
        const answer = ask(page, { path, headers: { 'sec-fetch-site': site } });
        expect(answer?.status).toBe(200);
        void answer?.body?.cancel();
      }
    }
    expect(page.viewers).toBe(0);
  });

  it('is limited to GET and HEAD, and to existing paths', async () => {
    const { page } = setUp();
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      const answer = ask(page, { method });
      expect([method, answer?.status, answer?.headers.get('allow')]).toEqual([
        method,
        405,
        'GET, HEAD',
      ]);
    }
    const head = ask(page, { method: 'HEAD' });
    expect([head?.status, await head?.text()]).toEqual([200, '']);
    expect([ask(page, { method: 'HEAD', path: '/live/events' })?.status, page.viewers]).toEqual([
      200, 0,
    ]);
    for (const path of ['/live/../etc/passwd', '/livestock', '/', '/liv', '/LIVE'])
      expect([path, ask(page, { path })]).toEqual([path, undefined]);
    for (const path of ['/live/other', '/live/events/x', '/live/snapshot.json'])
      expect([path, ask(page, { path })?.status]).toEqual([path, 404]);
    for (const path of ['/live/', '/live?x=1', '/live/snapshot?x'])
      expect([path, ask(page, { path })?.status]).toEqual([path, 200]);
  });

  it('gets a document without external resources, and a policy that allows none', async () => {
    const { page } = setUp();
    const answer = ask(page)!;
    const policy = answer.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
    expect(policy).not.toContain('unsafe');
    expect([
      answer.headers.get('cache-control'),
      answer.headers.get('x-content-type-options'),
      answer.headers.get('referrer-policy'),
    ]).toEqual(['no-store', 'nosniff', 'no-referrer']);
    const html = await answer.text();
    expect(html).not.toMatch(/(?:src|href)="(?!data:|#)/);
    expect(html.length).toBeLessThan(140_000);
    const zipped = ask(page, { headers: { 'accept-encoding': 'br, gzip' } })!;
    expect(zipped.headers.get('content-encoding')).toBe('gzip');
    for (const [accepted, coding] of [
      ['GZIP ; q=0.5, br', 'gzip'],
      ['br;q=0,gzip;q=0.001', 'gzip'],
      ['gzip;q=0', null],
      ['br, gzip; q=0.000', null],
      ['x-gzip', null],
    ] as const)
      expect(
        ask(page, { headers: { 'accept-encoding': accepted } })!.headers.get('content-encoding'),
        accepted,
      ).toBe(coding);
    expect((await zipped.arrayBuffer()).byteLength).toBeLessThan(45 * 1024);
  });
});

describe('HTTP/2, whose requests have an authority in the place of a host', () => {
  type Answer = http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader;
  const asked = async (page: LivePage, path: string, authority?: string): Promise<Answer> => {
    const server = http2.createServer((request, response) => {
      // The request and response of the compatibility API stand for those of node:http.
      page.handle(request as never, response as never);
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const { port } = server.address() as AddressInfo;
    const client = http2.connect(`http://127.0.0.1:${port}`);
    try {
      const stream = client.request({
        ':path': path,
        ':authority': authority ?? `localhost:${port}`,
      });
      const [headers] = (await once(stream, 'response')) as [Answer];
      stream.resume();
      await once(stream, 'end');
      return headers;
    } finally {
      client.close();
      server.close();
    }
  };

  it('opens to this machine at localhost only', async () => {
    const { page } = setUp({ access: 'local' });
    expect((await asked(page, '/live'))[':status']).toBe(200);
    expect((await asked(page, '/live', 'evil.example'))[':status']).toBe(403);
  });

  it('gets a cookie of its port', async () => {
    const { page } = setUp({ token: TOKEN });
    const answer = await asked(page, `/live?token=${TOKEN}`);
    expect(answer['set-cookie']?.[0]).toMatch(/^portcullis_page_\d+=/);
  });
});

describe('the link', () => {
  const linked = (page: LivePage, token: string, asked: Asked = {}): Response | undefined =>
    ask(page, { ...asked, path: `/live?token=${token}` });
  const cookieOf = (answer: Response | undefined): string =>
    answer?.headers.get('set-cookie')?.split(';', 1)[0] ?? '';

  it('is exchanged for a cookie of the page, and leads to a path without the token', () => {
    const { page } = setUp({ token: TOKEN });
    const answer = linked(page, TOKEN, { peer: '192.0.2.1' });
    expect([answer?.status, answer?.headers.get('location')]).toEqual([303, '/live']);
    const cookie = answer?.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(
      /^portcullis_page_3000=[\w-]{43}; Path=\/live; Max-Age=43200; HttpOnly; SameSite=Strict$/,
    );
    expect(cookie + JSON.stringify([...answer!.headers])).not.toContain(TOKEN);
    for (const path of ['/live', '/live/snapshot', '/live/events']) {
      const seen = ask(page, { path, headers: { cookie: `a=b; ${cookieOf(answer)}; c=d` } });
      expect([path, seen?.status]).toEqual([path, 200]);
      void seen?.body?.cancel();
    }
    for (const wrong of [
      'portcullis_page_3000=',
      `${cookieOf(answer)}x`,
      `portcullis_page_3000=${TOKEN}`,
    ])
      expect(ask(page, { headers: { cookie: wrong } })?.status).toBe(401);
    // Browsers send cookies to every port of a host: another port's is another cookie.
    expect(
      ask(page, { headers: { cookie: cookieOf(answer), host: 'localhost:3001' } })?.status,
    ).toBe(401);
  });

  it('sets a cookie for TLS only where the client uses TLS', () => {
    const { page } = setUp({ token: TOKEN });
    const behind = linked(page, TOKEN, { headers: { 'x-forwarded-proto': 'https' } });
    expect(behind?.headers.get('set-cookie')).toMatch(/; Secure$/);
  });

  it('opens the document only, and no other page', () => {
    const { page } = setUp({ token: TOKEN });
    expect(ask(page, { path: `/live/snapshot?token=${TOKEN}` })?.status).toBe(401);
    expect(ask(page, { path: `/live/events?token=${TOKEN}` })?.status).toBe(401);
    expect(linked(page, 'x'.repeat(5000))?.status).toBe(401);
    const other = setUp({ token: `${TOKEN}-2` }).page;
    const cookie = cookieOf(linked(page, TOKEN));
    expect(ask(other, { headers: { cookie } })?.status).toBe(401);
  });

  it('of a made token is needed even on this machine, behind a proxy that sends no header', () => {
    const { page } = setUp({ access: 'token' });
    // As nginx with nothing but proxy_pass sends it.
    const asNginx = { headers: { host: '127.0.0.1:3000', connection: 'close' } };
    for (const path of ['/live', '/live/snapshot', '/live/events'])
      expect([path, ask(page, { path, ...asNginx })?.status]).toEqual([path, 401]);
    expect(page.isOn).toBe(true);
    const token = madeToken('/live');
    expect(token).toMatch(/^[\w-]{32}$/);
    expect(linked(page, token)?.status).toBe(303);
    // One token for each path.
    expect(madeToken('/live')).toBe(token);
    expect(madeToken('/other')).not.toBe(token);
    expect(
      setUp({ access: 'token' }).page.fetch(new Request(`http://a/live?token=${token}`), '')
        ?.status,
    ).toBe(303);
  });

  it('of a made token is the same in every thread', async () => {
    const worker = new Worker(new URL('fixtures/page-token.mjs', import.meta.url));
    const [token] = (await once(worker, 'message')) as [string];
    expect(token).toBe(madeToken('/live'));
    await worker.terminate();
  });
});

describe('in production', () => {
  const inProduction = (run: () => void): void => {
    const before = process.env['NODE_ENV'];
    process.env['NODE_ENV'] = 'production';
    try {
      run();
    } finally {
      if (before === undefined) delete process.env['NODE_ENV'];
      else process.env['NODE_ENV'] = before;
    }
  };

  it('the page is off without a token, and says how to switch it on', async () => {
    const warned = once(process, 'warning') as Promise<[Error & { code?: string }]>;
    inProduction(() => {
      const { page } = setUp({ access: 'token' });
      expect(page.isOn).toBe(false);
      for (const path of [
        '/live',
        '/live/snapshot',
        '/live/events',
        `/live?token=${madeToken('/live')}`,
      ])
        expect([path, ask(page, { path })]).toEqual([path, undefined]);
      expect(page.snapshot().version).toBe(1);
    });
    const [warning] = await warned;
    expect([warning.code, warning.message]).toEqual([
      'PORTCULLIS_PAGE_OFF',
      'the live page at /live is off: NODE_ENV is "production", and page.token is not set. Set page.token (16 to 512 visible ASCII characters) to switch the page on',
    ]);
  });

  it("the page is on with a token, and with access 'local'", () => {
    inProduction(() => {
      const { page } = setUp({ token: TOKEN });
      expect([page.isOn, ask(page)?.status]).toEqual([true, 401]);
      const local = setUp({ access: 'local' }).page;
      expect([local.isOn, ask(local)?.status]).toEqual([true, 200]);
    });
  });
});

describe('guesses', () => {
  it('are limited by network; a browser with the cookie is never locked out', () => {
    const { page } = setUp({ token: TOKEN });
    const present = (token: string, peer: string): number | undefined =>
      ask(page, { peer, headers: { authorization: `Bearer ${token}` } })?.status;
    const cookie = ask(page, { path: `/live?token=${TOKEN}` })
      ?.headers.get('set-cookie')
      ?.split(';', 1)[0];
    const statuses = Array.from({ length: 12 }, (_, at) => present(`wrong-${at}`, `192.0.2.${at}`));
    expect(statuses).toEqual([...Array.from({ length: 10 }, () => 401), 429, 429]);
    // Not even the right token is judged, by header or by link.
    expect(present(TOKEN, '192.0.2.99')).toBe(429);
    const link = ask(page, { path: `/live?token=${TOKEN}`, peer: '192.0.2.99' });
    expect([link?.status, Number(link?.headers.get('retry-after')) > 50]).toEqual([429, true]);
    expect(ask(page, { peer: '192.0.2.99', headers: { cookie: cookie! } })?.status).toBe(200);
    // A request without credentials is no guess.
    for (let at = 0; at < 50; at++) ask(page, { peer: '198.51.100.1' });
    expect(present(TOKEN, '198.51.100.1')).toBe(200);
  });

  it('are limited in all, in bounded memory, but not for networks that know the token', () => {
    let now = 5;
    const guesses = new Guesses(() => now);
    guesses.right('203.0.113.7');
    let judged = 0;
    for (let at = 0; at < 100_000; at++) {
      const peer = `10.${at >> 16}.${(at >> 8) & 255}.${at & 255}`;
      if (guesses.lockedMs(peer) > 0) continue;
      judged++;
      guesses.wrong(peer);
    }
    expect(judged).toBe(100);
    expect(guesses.lockedMs('198.51.100.1')).toBe(60_000);
    expect(guesses.lockedMs('203.0.113.200')).toBe(0);
    now += 60_000;
    expect(guesses.lockedMs('198.51.100.1')).toBe(0);
    expect(guesses.lockedMs('10.0.0.1')).toBe(0);
  });
});

describe('clients', () => {
  it('are masked, unless showClients is set', async () => {
    const { page, manager, clock } = setUp({ showClients: undefined });
    manager.addConnection('a', new FakeSocket(), '192.0.2.77', 'ada@example.org');
    manager.addConnection('b', new FakeSocket(), '192.0.2.77', 'ada@example.org');
    manager.addConnection('c', new FakeSocket(), '2001:db8:aa:bb::9');
    const text = await ask(page, { path: '/live/snapshot' })!.text();
    expect(text).not.toMatch(/192\.0\.2\.77|ada|:bb|example/);
    const { connections } = JSON.parse(text) as PageSnapshot;
    expect(connections.topAddresses).toEqual([
      { key: '192.0.2.0/24', count: 2 },
      { key: '2001:db8:aa::/48', count: 1 },
    ]);
    expect(connections.topUsers).toEqual([
      { key: expect.stringMatching(/^user [0-9a-f]{8}$/), count: 2 },
    ]);
    clock.advance(1000);
    expect(page.snapshot().connections.topUsers).toEqual(connections.topUsers);
  });

  it('keep their network, in one notation', () => {
    for (const [address, network] of [
      ['192.0.2.1', '192.0.2.0/24'],
      ['::ffff:192.0.2.1', '192.0.2.0/24'],
      ['::FFFF:192.0.2.1', '192.0.2.0/24'],
      ['2001:db8:1:2:3:4:5:6', '2001:db8:1::/48'],
      ['2001:DB8:01::', '2001:db8:1::/48'],
      ['2001:db8::1', '2001:db8::/48'],
      ['fe80::1%eth0', 'fe80::/48'],
      ['64:ff9b::192.0.2.1', '64:ff9b::/48'],
      ['::1', '::/48'],
      ['::', '::/48'],
      ['', ''],
      ['a socket', ''],
      ['1.2.3', ''],
    ] as const)
      expect([address, maskedNetwork(address)]).toEqual([address, network]);
    const names = masked();
    expect(names.user('ada')).toBe(names.user('ada'));
    expect(names.user('ada')).not.toBe(names.user('bob'));
    expect(names.user('ada')).not.toBe(masked().user('ada'));
  });
});

describe('the figures', () => {
  it('are the manager’s counts, once a second, with their history', async () => {
    const { page, clock, manager } = setUp();
    manager.addConnection('a', new FakeSocket(), '192.0.2.1', 'ada');
    manager.addConnection('b', new FakeSocket(), '192.0.2.1');
    clock.advance(3000);
    manager.reserve('192.0.2.9');
    const feed = reader(ask(page, { path: '/live/events' }));
    const history = (await feed.next('history')) as PageHistory;
    expect(history.rows.map((row) => row[8])).toEqual([0, 2, 2, 2]);
    await feed.next('snapshot');
    for (let i = 0; i < 5; i++)
      manager.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1', 'ada');
    clock.advance(1000);
    const { connections, refusals, events, row } = (await feed.next('snapshot')) as PageSnapshot;
    const stats = manager.getStats();
    expect([
      connections.total,
      connections.addresses,
      connections.users,
      connections.anonymous,
      connections.admitted,
    ]).toEqual([
      stats.totalConnections,
      stats.connectionsByIp,
      stats.connectionsByUser,
      stats.anonymousConnections,
      stats.admitted,
    ]);
    expect(connections.states).toEqual({ opening: 1, active: 5, quiet: 0 });
    expect(connections.topAddresses).toEqual([{ key: '192.0.2.1', count: 5 }]);
    expect(connections.topUsers).toEqual([{ key: 'ada', count: 4 }]);
    expect(refusals).toEqual([{ name: 'ip_limit', count: 2 }]);
    expect(events[0]?.text).toBe('2 refusals: ip limit');
    expect([row[8], row[9], row[10]]).toEqual([6, 3, 2]);
    clock.advance(1000);
    expect(((await feed.next('snapshot')) as PageSnapshot).row[10]).toBe(0);
    await feed.cancel();
    expect(page.viewers).toBe(0);
  });

  it('are complete in the first frame of the first viewer', async () => {
    const { page, clock, manager } = setUp();
    clock.advance(5000);
    manager.addConnection('a', new FakeSocket(), '192.0.2.1', 'ada');
    for (let i = 0; i < 6; i++) manager.reserve('192.0.2.9');
    const feed = reader(ask(page, { path: '/live/events' }));
    await feed.next('history');
    const { connections, timers, refusals, server } = (await feed.next('snapshot')) as PageSnapshot;
    expect([
      connections.total,
      server.viewers,
      refusals,
      connections.topAddresses,
      connections.topUsers,
    ]).toEqual([
      6,
      1,
      [{ name: 'ip_limit', count: 1 }],
      [{ key: '192.0.2.1', count: 1 }],
      [{ key: 'ada', count: 1 }],
    ]);
    expect(connections.states).toEqual({ opening: 5, active: 1, quiet: 0 });
    expect(timers.byName).toContainEqual({ name: 'page.second', count: 1 });
    await feed.cancel();
  });

  it('of connections are null until a scan has visited all', async () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    const manager = new ConnectionManager({}, timers);
    const page = new LivePage({ path: '/live', access: 'local' }, { connections: manager, timers });
    open.push(page, { close: () => manager.cleanup() });
    for (let i = 0; i < 2600; i++) manager.addConnection(`c${i}`, new FakeSocket(), '192.0.2.1');
    const { connections } = (await ask(page, { path: '/live/snapshot' })!.json()) as PageSnapshot;
    expect([
      connections.total,
      connections.states,
      connections.topAddresses,
      connections.topUsers,
    ]).toEqual([2600, null, null, null]);
  });

  it('are completed for ten seconds after a request, and count denied requests', async () => {
    const { page, clock, manager } = setUp();
    manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    ask(page, { peer: '10.0.0.1' });
    ask(page, { path: '/live/snapshot' });
    clock.advance(9000);
    expect([
      page.snapshot().connections.topAddresses?.length,
      page.snapshot().server.denied,
    ]).toEqual([1, 1]);
    clock.advance(1000);
    expect(page.snapshot().connections.topAddresses).toBeNull();
  });

  it('stay as they are after the page is closed', async () => {
    const { page, manager } = setUp();
    page.close();
    manager.addConnection('a', new FakeSocket(), '192.0.2.1');
    const { connections } = (await ask(page, { path: '/live/snapshot' })!.json()) as PageSnapshot;
    expect([connections.total, connections.topAddresses]).toEqual([0, null]);
  });

  it('are null for parts that are not in use, and never NaN', () => {
    const { page, clock } = setUp();
    clock.advance(1000);
    const { state, health, advice, requests, messages, loop, memory, cpu, layers, heat, budgets } =
      page.snapshot();
    expect([
      state,
      health,
      advice,
      requests,
      messages,
      loop,
      memory,
      cpu,
      layers,
      heat,
      budgets,
    ]).toEqual(['unknown', ...Array.from({ length: 10 }, () => null)]);
  });

  it('contain the report of metrics and the figures of a monitor', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const manager = new ConnectionManager({}, timers);
    const monitor = new ResourceMonitor(
      { memory: { maxHeapSizeMb: 65_536 } },
      {
        timers,
        log: false,
        connections: manager,
      },
    );
    const metrics = new ProductionMetrics({ timers, monitor });
    const page = new LivePage(
      { path: '/live', monitor, metrics },
      { connections: manager, timers },
    );
    open.push(page, monitor, metrics);
    for (let i = 0; i < 99; i++)
      metrics.recordRequest(10, { route: '/a', method: 'GET', status: 200 });
    metrics.recordRequest(800, { route: '/b', method: 'GET', status: 503 });
    clock.advance(1000);
    clock.advance(1000);
    const snapshot = page.snapshot();
    const report = metrics.generateReport();
    expect(snapshot.health?.score).toBeCloseTo(report.metrics.healthScore!, 0);
    expect(snapshot.health?.parts.map(({ id }) => id)).toEqual(Object.keys(report.scoreParts));
    expect(snapshot.requests?.errorPercent).toBe(1);
    expect(snapshot.requests?.p50Ms).toBeCloseTo(10, 1);
    expect(snapshot.requests?.routes.map(({ route }) => route)).toEqual(['GET /a', 'GET /b']);
    expect(snapshot.memory?.limitMb).toBeGreaterThan(0);
    expect(JSON.stringify(snapshot)).not.toMatch(/NaN|Infinity/);
    expect(JSON.stringify(snapshot).length).toBeLessThan(16 * 1024);
  });

  it('are kept for ten minutes', async () => {
    const { page, clock } = setUp();
    clock.advance(3_600_000);
    const feed = reader(ask(page, { path: '/live/events' }));
    const { rows, heat } = (await feed.next('history')) as PageHistory;
    expect([rows.length, heat.length]).toEqual([600, 600]);
    await feed.cancel();
  });

  it('merge refusals of ten seconds in one event, and keep sixty events', () => {
    const journal = new Journal();
    const told = (sum: number): string => `${sum} refusals`;
    for (let second = 0; second <= 10; second++)
      journal.count(second * 1000, 'refused', 'ip_limit', 3, told);
    expect(journal.events.map(({ text }) => text)).toEqual(['33 refusals']);
    journal.count(10_001, 'refused', 'ip_limit', 2, told);
    journal.count(10_001, 'refused', 'ip_rate', 1, told);
    expect(journal.events.map(({ text }) => text)).toEqual([
      '1 refusals',
      '2 refusals',
      '33 refusals',
    ]);
    for (let i = 0; i < 1000; i++) journal.add(i, 'stall', 'warning', 'x'.repeat(1000));
    expect([journal.events.length, journal.events[0]?.text.length]).toEqual([60, 200]);
  });
});

describe('viewers', () => {
  it('beyond maxViewers get 503 with Retry-After', () => {
    const { page } = setUp({ maxViewers: 2 });
    const all = [1, 2, 3].map(() => ask(page, { path: '/live/events' }));
    expect(all.map((answer) => answer?.status)).toEqual([200, 200, 503]);
    expect(all[2]?.headers.get('retry-after')).toBe('30');
    expect(page.viewers).toBe(2);
  });

  it('are disconnected if they never read, with bounded memory', () => {
    const { page, clock } = setUp();
    const before = page.viewers;
    const answer = ask(page, { path: '/live/events' });
    expect([answer?.status, page.viewers]).toEqual([200, before + 1]);
    let seconds = 0;
    for (; page.viewers > 0 && seconds < 10_000; seconds++) clock.advance(1000);
    // The time that 64 KB of frames take, and ten seconds more.
    expect(seconds).toBeGreaterThan(10);
    expect(seconds).toBeLessThan(120);
  });

  it('stay while they read; a stream ends after ten minutes', async () => {
    const { page, clock } = setUp();
    const feed = reader(ask(page, { path: '/live/events' }));
    await feed.next('snapshot');
    for (let second = 0; second < 590; second++) {
      clock.advance(1000);
      await feed.next('snapshot');
    }
    expect(page.viewers).toBe(1);
    clock.advance(20_000);
    expect(await feed.isOver()).toBe(true);
    expect(page.viewers).toBe(0);
  });

  it('that never read cost a real server bounded memory', async () => {
    const { page, clock } = setUp();
    let most = 0;
    const server = createServer((request, response) => {
      page.handle(request, response);
      const watch = setInterval(() => (most = Math.max(most, response.writableLength)), 5);
      response.once('close', () => clearInterval(watch));
    });
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.pause();
    socket.write('GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    while (page.viewers === 0) await new Promise((resolve) => setImmediate(resolve));
    for (let second = 0; second < 700 && page.viewers > 0; second++) {
      clock.advance(1000);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(page.viewers).toBe(0);
    expect(most).toBeLessThan(256 * 1024);
    socket.destroy();
    server.close();
  });

  it('count neither in metrics nor in limits', async () => {
    const timers = new TimerManager();
    const metrics = new ProductionMetrics({ timers });
    const page = { path: '/live', access: 'local' } as const;
    const guard = guardWs({ limits: {}, timers, metrics, page });
    const server = createServer(guard.request((_request, response) => response.end('hello')));
    const detach = guard.attach(server, new WebSocketServer({ noServer: true }));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const base = `http://localhost:${(server.address() as AddressInfo).port}`;
    const counted = (): number => metrics.generateReport().windows.lifetime.requests;
    for (const path of ['/live', '/live/snapshot'])
      expect((await fetch(base + path)).status).toBe(200);
    const stream = await fetch(`${base}/live/events`);
    await stream.body?.cancel();
    expect([counted(), metrics.generateReport().inFlight]).toEqual([0, 0]);
    await (await fetch(`${base}/other`)).text();
    await expect.poll(counted).toBe(1);
    expect(guard.page?.snapshot().health).not.toBeNull();
    detach();
    server.close();
    timers.cleanup();
    metrics.close();
  });

  it('are disconnected when the page drains, closes, or its timers close; new ones get 503', async () => {
    for (const end of [
      ({ page }: Set) => page.drain(),
      ({ page }: Set) => page.close(),
      ({ timers }: Set) => void timers.cleanup(),
    ]) {
      const all = setUp();
      const feed = reader(ask(all.page, { path: '/live/events' }));
      end(all);
      end(all);
      expect(await feed.isOver()).toBe(true);
      expect([all.page.viewers, ask(all.page, { path: '/live/events' })?.status]).toEqual([0, 503]);
    }
  });
});

describe('top addresses and users', () => {
  const connections = (keys: readonly string[]) =>
    new Map(
      keys.map((ip, index) => [String(index), { ip, userId: undefined, lastActivity: 1000 }]),
    ) as never;

  it('are exact for up to 2,048 keys', () => {
    const keys = Array.from({ length: 4000 }, (_, index) => `key-${Math.floor(Math.sqrt(index))}`);
    const counts = new Map<string, number>();
    for (const key of keys) counts.set(key, (counts.get(key) ?? 0) + 1);
    const naive = [...counts]
      .map(([key, count]) => ({ key, count }))
      .sort((a, b) => b.count - a.count || (a.key < b.key ? -1 : 1));
    const scan = new ConnectionScan(connections(keys), SHOWN);
    let found = scan.step(1000);
    while (found === undefined) found = scan.step(1000);
    const { topAddresses, topError, active } = found;
    expect([topAddresses, topError, active]).toEqual([naive.slice(0, 8), 0, 4000]);
  });

  it('are found among 100,000 keys, in bounded memory and steps', () => {
    const keys = Array.from({ length: 100_000 }, (_, index) =>
      index % 10 === 0 ? 'many' : `single-${index}`,
    );
    const scan = new ConnectionScan(connections(keys), SHOWN);
    let steps = 0;
    let found = scan.step(1000);
    for (; found === undefined; found = scan.step(1000)) steps++;
    expect(steps).toBe(40);
    const [top] = found.topAddresses;
    expect(top?.key).toBe('many');
    // Too low by at most the stated error.
    expect(top!.count).toBeLessThanOrEqual(10_000);
    expect(top!.count).toBeGreaterThanOrEqual(10_000 - found.topError);
    expect(found.topError).toBeLessThanOrEqual(100_000 / 2048);
  });
});

describe('options', () => {
  const failure = (options: unknown): PortcullisError => {
    try {
      setUp(options as Partial<PageOptions>);
    } catch (error) {
      return error as PortcullisError;
    }
    throw new Error(`${JSON.stringify(options)} was accepted`);
  };

  it('that are wrong are refused by field, and messages never contain the token', () => {
    for (const [options, code, field] of [
      [{ path: 7 }, 'ERR_INVALID_ARG_TYPE', 'page.path'],
      [{ path: '' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: '/' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: 'live' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: '/a b' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: '/a?b' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: '/a/../b' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: '/a/.' }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ path: `/${'a'.repeat(300)}` }, 'ERR_OUT_OF_RANGE', 'page.path'],
      [{ token: '' }, 'ERR_OUT_OF_RANGE', 'page.token'],
      [{ token: 'hunter2' }, 'ERR_OUT_OF_RANGE', 'page.token'],
      [{ token: 7_000_007 }, 'ERR_INVALID_ARG_TYPE', 'page.token'],
      [{ token: 'with a space in the middle' }, 'ERR_OUT_OF_RANGE', 'page.token'],
      [{ access: 'open' }, 'ERR_OUT_OF_RANGE', 'page.access'],
      [{ access: null }, 'ERR_OUT_OF_RANGE', 'page.access'],
      [{ access: 'local', token: TOKEN }, 'ERR_OUT_OF_RANGE', 'page.access'],
      [{ showClients: 1 }, 'ERR_INVALID_ARG_TYPE', 'page.showClients'],
      [{ title: '' }, 'ERR_INVALID_ARG_TYPE', 'page.title'],
      [{ title: 'x'.repeat(61) }, 'ERR_INVALID_ARG_TYPE', 'page.title'],
      [{ maxViewers: 0 }, 'ERR_OUT_OF_RANGE', 'page.maxViewers'],
      [{ maxViewers: 65 }, 'ERR_OUT_OF_RANGE', 'page.maxViewers'],
      [{ maxViewers: Number.NaN }, 'ERR_OUT_OF_RANGE', 'page.maxViewers'],
      [{ monitor: {} }, 'ERR_INVALID_ARG_TYPE', 'page.monitor'],
      [{ metrics: {} }, 'ERR_INVALID_ARG_TYPE', 'page.metrics'],
      [{ chain: 1 }, 'ERR_INVALID_ARG_TYPE', 'page.chain'],
    ] as const) {
      const error = failure(options);
      expect([options, error.code, error.field]).toEqual([options, code, field]);
      expect(error.message + String(error.value)).not.toMatch(/hunter2|7000007|with a space/);
    }
    const unknown = failure({ tokn: TOKEN });
    expect([unknown.code, unknown.message]).toEqual([
      'ERR_UNKNOWN_OPTION',
      'page has no option "tokn", did you mean token?',
    ]);
  });

  it('include requests of the right type: others are refused by name', () => {
    const { page } = setUp();
    const request = new Request('http://localhost/live');
    for (const junk of [undefined, null, 7, 'GET', {}, { url: 7 }, { url: '/live' }]) {
      for (const attempt of [
        () => page.fetch(junk as never, '127.0.0.1'),
        () => page.handle(junk as never, {} as never),
      ])
        expect(attempt).toThrow(PortcullisError);
    }
    for (const junk of [undefined, null, 7, {}])
      expect(() => page.fetch(request, junk as never)).toThrow(PortcullisError);
    expect(() =>
      page.handle({ url: '/live', headers: {}, socket: {} } as never, undefined as never),
    ).toThrow(PortcullisError);
  });

  it('with a chain that throws cost the page some frames, not the server', async () => {
    let fails = false;
    const figures = { name: 'own', version: 1, timing: 'off' as const, layers: [] };
    const chain = {
      snapshot() {
        if (fails) throw new Error('a chain of their own');
        return figures;
      },
    };
    const { page, clock } = setUp({ chain });
    const warned = once(process, 'warning');
    fails = true;
    // The chain is not asked while no viewer looks.
    clock.advance(4000);
    ask(page, { path: '/live/snapshot' });
    clock.advance(1000);
    expect(String(((await warned) as [Error])[0].message)).toContain('page failed');
    fails = false;
    clock.advance(1000);
    expect([page.snapshot().sequence, page.snapshot().layers]).toEqual([7, []]);
  });

  it('that are wrong leave no timer behind', () => {
    const timers = new TimerManager();
    const manager = new ConnectionManager({}, timers);
    const before = timers.getActiveTimersCount();
    for (const sources of [
      undefined,
      null,
      {},
      { connections: manager },
      { connections: {}, timers },
    ]) {
      expect(() => new LivePage({ path: '/live' }, sources as never)).toThrow(PortcullisError);
    }
    expect(timers.getActiveTimersCount()).toBe(before);
    const page = new LivePage({ path: '/live' }, { connections: manager, timers });
    page.close();
    expect(timers.getActiveTimersCount()).toBe(before);
    manager.cleanup();
  });
});
