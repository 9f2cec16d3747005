import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { expect, it } from 'vitest';
import type { PageSnapshot } from '../dist/index.js';
import { start } from './servers/start.js';

const TOKEN = 'correct-horse-battery';

it(
  'npm start shows the page, with the given number of real clients',
  { timeout: 60_000 },
  async () => {
    const demo = spawn('node', ['scripts/start.mjs', '--load', '20'], {
      env: { ...process.env, PORT: '0', PAGE_TOKEN: TOKEN },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    try {
      let url: string | undefined;
      for await (const data of demo.stdout) {
        url = /listening on (http:\S+)/.exec(String(data))?.[1];
        if (url !== undefined) break;
      }
      const snapshot = async (): Promise<PageSnapshot> =>
        (await (
          await fetch(`${url}portcullis/snapshot`, {
            headers: { authorization: `Bearer ${TOKEN}` },
          })
        ).json()) as PageSnapshot;
      await expect
        .poll(async () => (await snapshot()).connections.total, { timeout: 20_000 })
        .toBe(20);
      await expect
        .poll(async () => (await snapshot()).requests?.perSecond, { timeout: 20_000 })
        .toBeGreaterThan(0);
      const { state, layers, loop, memory, requests, messages } = await snapshot();
      expect(
        requests?.routes
          .map(({ route }) => route)
          .filter((route) => !/^GET \/(?:users\/:id|report|flaky|block|)$/.test(route)),
      ).toEqual([]);
      expect(messages?.inPerSecond).toBeGreaterThan(0);
      expect([state === 'unknown', layers?.length, loop === null, memory === null]).toEqual([
        false,
        3,
        false,
        false,
      ]);
    } finally {
      const ended = once(demo, 'exit');
      demo.kill('SIGTERM');
      await ended;
    }
  },
);

it('a server of the tests that cannot start ends the wait for it, and the next one starts', async () => {
  const command = ['node', '__test__/servers/ws.mjs'] as const;
  await expect(start(command, { limits: { maxConnectionsPerIp: -1 } })).rejects.toThrow(
    /failed to start: .*maxConnectionsPerIp/,
  );
  const server = await start(command, { limits: {} });
  expect(await server.total()).toBe(0);
});

it('npm start explains wrong options', () => {
  for (const [args, said] of [
    [['--load', 'many'], '--load must be a whole number from 0 to 2000'],
    [['--load', '1e9'], '--load must be a whole number from 0 to 2000'],
    [['--lod', '5'], 'the only option is --load'],
  ] as const) {
    const { status, stderr } = spawnSync('node', ['scripts/start.mjs', ...args], {
      encoding: 'utf8',
    });
    expect([status, stderr.includes(said)]).toEqual([1, true]);
  }
});
