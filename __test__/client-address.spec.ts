import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { ResourceMonitor } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';
import { SECRET, token } from './fixtures/sign.js';
import { SERVERS, ask, cleanUp, type Server, start, startAlone } from './servers/start.js';

// The address that each host counts a client by. `contract.spec.ts` has the forwarded headers.
const folders: string[] = [];
afterEach(async () => {
  await cleanUp();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

const addressOf = async (server: Server, headers: Record<string, string> = {}): Promise<unknown> =>
  (JSON.parse(await ask(await server.open('/ws', headers), 'figures')) as unknown[])[3];

describe.each(Object.entries(SERVERS))('the client of the adapter for %s', (_name, command) => {
  it('is in the header that clientAddress names, if a trusted proxy wrote it', async () => {
    const server = await start(command, {
      limits: {},
      trustedProxies: ['127.0.0.1'],
      clientAddress: 'X-Real-IP',
    });
    expect(await addressOf(server, { 'x-real-ip': '192.0.2.9' })).toBe('192.0.2.9');
    expect(await addressOf(server, { 'X-Real-IP': '[2001:db8::9]:80' })).toBe('2001:db8::9');
    const others = { 'X-Forwarded-For': '192.0.2.1', Forwarded: 'for=192.0.2.1' };
    expect(await addressOf(server, others)).toBe('127.0.0.1');
    expect(await addressOf(server, { ...others, 'X-Real-IP': '192.0.2.9' })).toBe('192.0.2.9');
    for (const value of ['192.0.2.9, 192.0.2.8', 'unknown', ''])
      expect(await addressOf(server, { 'X-Real-IP': value })).toBe('127.0.0.1');
    const careful = await start(command, {
      limits: {},
      trustedProxies: ['10.0.0.0/8'],
      clientAddress: 'x-real-ip',
    });
    expect(await addressOf(careful, { 'X-Real-IP': '192.0.2.9' })).toBe('127.0.0.1');
  });

  it('is walked to in a list that clientAddress names, and in no other', async () => {
    const server = await start(command, {
      limits: {},
      trustedProxies: ['127.0.0.1', '10.0.0.0/8'],
      clientAddress: 'x-forwarded-for',
    });
    const headers = { 'X-Forwarded-For': '6.6.6.6, 192.0.2.1, 10.0.0.1' };
    expect(await addressOf(server, { ...headers, Forwarded: 'for=6.6.6.6' })).toBe('192.0.2.1');
  });

  it.each([false, true])(
    'is found by a function, which cannot end the server (identify: %s)',
    async (whoAmI) => {
      const server = await startAlone(command, {
        limits: {},
        addressBy: 'x-client',
        ...(whoAmI ? { whoAmI } : {}),
      });
      expect(await addressOf(server, { 'X-Client': '192.0.2.3' })).toBe('192.0.2.3');
      await server.becomes(1);
      for (const value of ['throw', 'reject', undefined]) {
        const answer = await server.handshake(value === undefined ? {} : { 'X-Client': value });
        expect([answer.status, answer.body.includes('identify_failed')]).toEqual([500, true]);
        expect(answer.body).not.toContain('secret');
      }
      expect((await server.guard()).authDenials).toEqual({ identify_failed: 3 });
      await server.becomes(1);
      expect(await server.end()).toMatchObject({ code: 0, unhandled: [] });
    },
  );

  it('has to be found before a request is served, where requests have limits', async () => {
    const perIp = { limit: 2, windowMs: 60_000 };
    const server = await start(command, {
      limits: {},
      addressBy: 'x-client',
      requests: { rate: { perIp } },
    });
    const ask = async (client: string): Promise<unknown[]> => {
      const headers = { 'X-Client': client };
      const answer = await fetch(`http://127.0.0.1:${server.port}/`, { headers });
      const body = await answer.text();
      return [answer.status, body.includes('identify_failed'), answer.headers.get('retry-after')];
    };
    // A client whose address cannot be found is not served under that of its proxy.
    expect(await ask('throw')).toEqual([500, true, '1']);
    const [first] = await ask('192.0.2.3');
    expect(first).not.toBe(500);
    const [[second], [third]] = [await ask('192.0.2.3'), await ask('192.0.2.3')];
    expect([second, third]).toEqual([first, 429]);
  });

  it('is asked for once where it cannot be found, and bans nobody', async () => {
    const server = await start(command, {
      limits: {},
      addressBy: 'x-client',
      auth: { policy: { keys: { secret: SECRET } } },
      banAfter: { failures: 2, countRateRefusals: true },
      requests: { maxConcurrentPerIp: 9, rate: { perIp: { limit: 2, windowMs: 60_000 } } },
      exemptPaths: ['/tally', '/stats'],
    });
    const tally = async (): Promise<unknown> => JSON.parse(await server.get('/tally'));
    const before = (await tally()) as object;
    for (const client of ['throw', 'reject', 'throw']) {
      const { status, body } = await server.handshake({ 'X-Client': client, Authorization: 'x' });
      expect([status, body.includes('identify_failed')]).toEqual([500, true]);
    }
    expect(await tally()).toEqual({ ...before, addressed: 3, errors: 3 });
    const headers = { 'X-Client': 'throw' };
    expect((await fetch(`http://127.0.0.1:${server.port}/ws`, { headers })).status).toBe(500);
    expect(await tally()).toEqual({ ...before, addressed: 4, errors: 4 });
    expect(JSON.parse(await server.get('/stats'))).toMatchObject({
      bans: { active: 0, failures: 0 },
    });
    const known = { 'X-Client': '192.0.2.3', Authorization: `Bearer ${token()}` };
    expect(await ask(await server.open('/ws', known), 'figures')).toContain('192.0.2.3');
  });

  it('is behind a Unix socket whose peer is trusted', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'portcullis-'));
    folders.push(folder);
    const listen = (name: string, options: object): Promise<Server> =>
      start(command, { limits: {}, unix: join(folder, name), ...options });
    const trusting = await listen('a', { trustedProxies: ['unix'] });
    expect(await addressOf(trusting, { 'X-Forwarded-For': '192.0.2.1' })).toBe('192.0.2.1');
    expect(await addressOf(trusting)).toBe('unix');
    const named = await listen('b', { trustedProxies: ['unix'], clientAddress: 'fly-client-ip' });
    expect(await addressOf(named, { 'Fly-Client-IP': '192.0.2.1' })).toBe('192.0.2.1');
    // Without that, all of its clients are one, without an address.
    const careful = await listen('c', {
      trustedProxies: ['127.0.0.1'],
      limits: { maxUnknownIpConnections: 1 },
    });
    expect(await addressOf(careful, { 'X-Forwarded-For': '192.0.2.1' })).toBe('unix');
    const refused = await careful.handshake({ 'X-Forwarded-For': '192.0.2.2' });
    expect([refused.status, refused.body.includes('unknown_ip_limit')]).toEqual([429, true]);
  });

  it('is exempt by the address that was found, and not from draining', async () => {
    const server = await start(command, {
      limits: { maxConnectionsPerIp: 1, connectRatePerIp: { limit: 1, windowMs: 60_000 } },
      trustedProxies: ['127.0.0.1'],
      exempt: ['192.0.2.0/24'],
    });
    const statusOf = async (client: string): Promise<number> =>
      (await server.handshake({ 'X-Forwarded-For': client })).status;
    for (let i = 0; i < 3; i++) await server.open('/ws', { 'X-Forwarded-For': '192.0.2.1' });
    await server.open('/ws', { 'X-Forwarded-For': '198.51.100.1' });
    await server.becomes(4);
    expect(await statusOf('198.51.100.1')).toBe(429);
    await server.get('/drain');
    expect(await statusOf('192.0.2.1')).toBe(503);
  });

  it('is not at a port of a server that trusts the peers of Unix sockets', async () => {
    const server = await start(command, { limits: {}, trustedProxies: ['unix'] });
    expect(await addressOf(server, { 'X-Forwarded-For': '192.0.2.1' })).toBe('127.0.0.1');
  });
});

it('need not be found for requests that a monitor only counts', async () => {
  const monitor = new ResourceMonitor({});
  const guard = portcullis({
    limits: {},
    monitor,
    clientAddress: () => {
      throw new Error('no header of the proxy');
    },
  });
  const server = createServer(guard.request((_request, response) => response.end('ok')));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).text()).toBe('ok');
  server.close();
  guard.close();
  monitor.close();
});
