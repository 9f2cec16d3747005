import { afterEach, describe, expect, it } from 'vitest';
import { until } from '../__test__/fixtures/until.js';
import { cleanUp, startAlone } from '../__test__/servers/start.js';

// Endless responses on frameworks for Node end with the drain, and do not hold it until its deadline.
afterEach(cleanUp);

describe('endless responses on Node', () => {
  it.each(['express', 'fastify', 'koa', 'elysia'])(
    '%s: an endless response says its last word, and the shutdown is graceful',
    async (kind) => {
      const server = await startAlone(['node', 'hosts/servers/draining.mjs'], {
        kind,
        limits: {},
        requests: { timeoutMs: 120_000 },
        shutdown: { deadlineMs: 60_000 },
      });
      const { seen, closed } = server.raw('GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
      await until(() => seen().includes('data: hello'));
      const result = await server.end();
      expect(result).toMatchObject({ graceful: true, requestsAborted: 0, leftovers: [], code: 0 });
      // Three quarters of the deadline are 45 s.
      expect(result.totalMs).toBeLessThan(20_000);
      expect(await closed).toMatch(/event: bye\ndata:\n\n\r\n0\r\n\r\n$/);
    },
  );
});
