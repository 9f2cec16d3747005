import { afterEach, describe, expect, it } from 'vitest';
import { contract, type Figures } from '../__test__/fixtures/contract.js';
import { cleanUp, closeCode, type Server, start } from '../__test__/servers/start.js';
import type { CLIENTS } from './clients.mjs';
import { until } from '../__test__/fixtures/until.js';
import { HOSTS } from './hosts.mjs';

// The contract of all adapters, on one host of the ecosystem: the one that the variable `PORTCULLIS_HOST` names.
afterEach(cleanUp);

interface Host {
  readonly run: readonly [string, ...string[]];
  readonly file: string;
  readonly protocols?: readonly string[];
  readonly cannot?: Parameters<typeof contract>[0]['cannot'];
  readonly client?: keyof typeof CLIENTS;
  readonly malformed?: readonly number[];
  readonly holdsProcess?: string;
}

const name = process.env['PORTCULLIS_HOST'] ?? '';
const host = (HOSTS as unknown as Readonly<Record<string, Host>>)[name];
if (host === undefined) throw new Error(`PORTCULLIS_HOST names no host: "${name}"`);
const isShort = process.env['HOSTS_SHORT'] !== undefined;
const { run, file, protocols, cannot, client, malformed, holdsProcess } = host;

const ENV = { NODE_ENV: 'production' };
const started = (options: object): Promise<Server> =>
  start([...run, `hosts/${file}`], options, ENV, protocols);

describe(name, () => {
  contract({
    start: started,
    async figures(server) {
      const [messages, received, sent, ip, user] = JSON.parse(
        await server.get('/figures'),
      ) as Figures;
      // Node names an IPv4 peer so on a socket that listens on all addresses.
      return [messages, received, sent, ip.replace('::ffff:', ''), user];
    },
    isShort,
    ...(cannot === undefined ? {} : { cannot }),
    ...(malformed === undefined ? {} : { malformed }),
  });

  it('gives the seat of a reset client back', async () => {
    const server = await started({ limits: { maxConnectionsPerIp: 1 } });
    for (let count = 0; count < 3; count++) {
      const { socket, seen } = server.rawHandshake();
      await until(() => seen().startsWith('HTTP/1.1 101 '));
      await server.becomes(1);
      socket.resetAndDestroy();
      await server.becomes(0);
    }
  });

  it('drains at SIGTERM: clients are closed with 1001, and the process ends by itself', async ({
    skip,
  }) => {
    if (holdsProcess !== undefined) skip(holdsProcess);
    const server = await started({ limits: {} });
    const closed = closeCode(await server.open());
    expect(await server.end()).toMatchObject({ code: 0, unhandled: [] });
    expect(await closed).toBe(1001);
  });

  if (client !== undefined)
    it('serves a real client of its protocol through the guard', async () => {
      const server = await started({ limits: { maxConnectionsPerIp: 2 } });
      // Each host needs one of these libraries, and most need none.
      const clients = await import('./clients.mjs');
      await clients.CLIENTS[client](`ws://127.0.0.1:${server.port}/ws`);
      await server.becomes(0);
    });
});
