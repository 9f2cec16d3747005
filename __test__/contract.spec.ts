import { afterEach, describe, expect, it } from 'vitest';
import { contract, type Figures } from './fixtures/contract.js';
import { SERVERS, ask, cleanUp, refusedByCode, start } from './servers/start.js';

// The contract of all adapters, checked on real servers in processes of their own.
afterEach(cleanUp);

describe.each(Object.entries(SERVERS))('the adapter for %s', (_name, command) => {
  contract({
    start: (options) => start(command, options),
    // The question is a message, too.
    async figures(_server, client) {
      const [messages, received, ...others] = JSON.parse(await ask(client, 'figures')) as Figures;
      return [messages - 1, received - 7, ...others];
    },
    text: 'é',
  });
});

it('an Elysia route registered before the plugin is guarded, and refuses by close code', async () => {
  const server = await start(['node_modules/.bin/bun', '__test__/servers/early.ts'], {});
  const client = await server.open();
  expect(await ask(client, 'hello')).toBe('hello');
  expect(await refusedByCode(server)).toBe(1008);
  expect(await server.total()).toBe(1);
  client.close();
  await server.becomes(0);
});

it.each(['/bare', '/data'])(
  'an Elysia handler that upgrades by hand is guarded (%s)',
  async (path) => {
    const server = await start(['node_modules/.bin/bun', '__test__/servers/early.ts'], {});
    const client = await server.open(path);
    expect(await server.total()).toBe(1);
    expect((await server.handshake({}, path)).status).toBe(429);
    client.close();
    await server.becomes(0);
  },
);

describe('two Elysia plugins in one app', () => {
  const command = ['node_modules/.bin/bun', '__test__/servers/pair.ts'] as const;

  it('both count and both refuse', async () => {
    const server = await start(command, {});
    const client = await server.open();
    expect(await ask(client, 'héllo')).toBe('héllo');
    await server.open();
    // Each plugin counts both seats and all bytes.
    expect(JSON.parse(await server.get('/stats'))).toEqual({
      totalConnections: 4,
      sent: [
        [6, 0],
        [6, 0],
      ],
    });
    expect((await server.handshake()).status).toBe(429);
    await server.open('/ws', { 'X-Forwarded-For': '192.0.2.1' });
    expect((await server.handshake({ 'X-Forwarded-For': '192.0.2.2' })).status).toBe(503);
    await server.becomes(6);
    client.close();
    await server.becomes(4);
  });

  it('keep no seat for an upgrade that the route refuses', async () => {
    const server = await start(command, {});
    for (let i = 0; i < 5; i++) {
      expect((await server.handshake({}, '/closed')).status).toBe(401);
      await server.becomes(0);
    }
  });
});
