import { afterEach, describe, expect, it } from 'vitest';
import { ask, cleanUp, closeCode, type Server, start } from './servers/start.js';

// The plugin in apps as Elysia's users build them: real servers on Bun.
afterEach(cleanUp);

const app = (kind: string, options: object = {}): Promise<Server> =>
  start(['node_modules/.bin/bun', '__test__/servers/elysia-apps.ts'], { kind, ...options });

describe('scoping', () => {
  it('guards one part each, and does not add up: admin 1, chat 3, free unguarded', async () => {
    const server = await app('a guard for each part');
    for (const [path, most] of [
      ['/admin', 1],
      ['/chat', 3],
    ] as const) {
      for (let i = 0; i < most; i++) expect(await ask(await server.open(path), 'in')).toBe('in');
      expect([path, (await server.handshake({}, path)).status]).toEqual([path, 429]);
      // A route sees the guard of its own part.
      expect(await server.get(`${path}/total`)).toBe(String(most));
    }
    for (let i = 0; i < 5; i++) expect(await ask(await server.open('/free'), 'in')).toBe('in');
    expect(await server.get('/opened')).toBe('9');
  });

  it('gives the seats of its part back', async () => {
    const server = await app('a guard for each part');
    (await server.open('/admin')).close();
    await expect.poll(() => server.get('/admin/total')).toBe('0');
    expect(await ask(await server.open('/admin'), 'in')).toBe('in');
  });

  it('guards the routes of a group', async () => {
    const server = await app('a guard for a group');
    await server.open('/admin/one');
    expect((await server.handshake({}, '/admin/two')).status).toBe(429);
    await server.open('/free');
    await server.open('/free');
  });

  it('of one guard in two parts holds for both together', async () => {
    const server = await app('one guard in two parts');
    await server.open('/admin');
    expect((await server.handshake({}, '/chat')).status).toBe(429);
    await server.open('/free');
  });

  it('local guards routes of the plugin itself only', async () => {
    const server = await app('a local guard');
    await server.open('/own');
    expect((await server.handshake({}, '/own')).status).toBe(429);
    for (const path of ['/parent', '/parent', '/free', '/free']) await server.open(path);
  });

  it('closes sockets of its part that nothing could judge, and leaves others alone', async () => {
    const server = await app('a scoped guard that comes late');
    await server.tells('loaded');
    expect(await closeCode(await server.open('/admin/one'))).toBe(1008);
    expect(await ask(await server.open('/free'), 'in')).toBe('in');
    expect(await server.get('/opened')).toBe('1');
  });

  it('judges the sockets of a route that its part has registered before it', async () => {
    const server = await app('a scoped guard behind its route');
    expect(await ask(await server.open('/admin'), 'in')).toBe('in');
    expect(await closeCode(await server.open('/admin'))).toBe(1008);
    for (let i = 0; i < 3; i++) await server.open('/free');
  });

  it('counts the requests of its part in the metrics', async () => {
    const server = await app('metrics of a part');
    await server.get('/in/1');
    await server.get('/out');
    await expect.poll(() => server.get('/requests')).toBe('/in/:id');
  });
});
