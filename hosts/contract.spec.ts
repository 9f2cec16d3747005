import { afterEach, describe, expect, it } from 'vitest';
import { contract, type Figures } from '../__test__/fixtures/contract.js';
import { cleanUp, type Server, start } from '../__test__/servers/start.js';
import { CLIENTS } from './clients.mjs';
import { HOSTS } from './hosts.mjs';

// The contract of all adapters, on one host of the ecosystem: the one that the project's `HOST` names.
afterEach(cleanUp);

interface Host {
  readonly run: readonly [string, ...string[]];
  readonly file: string;
  readonly protocols?: readonly string[];
  readonly cannot?: Parameters<typeof contract>[0]['cannot'];
  readonly client?: keyof typeof CLIENTS;
}

const name = process.env['HOST'] ?? '';
const host = (HOSTS as unknown as Readonly<Record<string, Host>>)[name];
if (host === undefined) throw new Error(`HOST names no host: "${name}"`);
const isShort = process.env['HOSTS_SHORT'] !== undefined;
const { run, file, protocols, cannot, client } = host;
const started = (options: object): Promise<Server> =>
  start([...run, `hosts/servers/${file}`], options, { NODE_ENV: 'production' }, protocols);

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
  });

  it('gives the seat of a reset client back', async () => {
    const server = await started({ limits: { maxConnectionsPerIp: 1 } });
    for (let count = 0; count < 3; count++) {
      const { socket, seen } = server.rawHandshake();
      await server.becomes(1);
      expect(seen()).toMatch(/^HTTP\/1.1 101 /);
      socket.resetAndDestroy();
      await server.becomes(0);
    }
  });

  it('drains at SIGTERM: clients are closed with 1001, and the process ends by itself', async () => {
    const server = await started({ limits: {} });
    const closed = new Promise((resolve) => {
      void server.open().then((socket) => {
        socket.on('close', resolve);
        return server
          .end()
          .then((result) => expect(result).toMatchObject({ code: 0, unhandled: [] }));
      });
    });
    expect(await closed).toBe(1001);
    expect(await server.exited).toBe(0);
  });

  if (client !== undefined)
    it('serves a real client of its protocol through the guard', async () => {
      const server = await started({ limits: { maxConnectionsPerIp: 2 } });
      await CLIENTS[client](`ws://127.0.0.1:${server.port}/ws`);
      await server.becomes(0);
    });
});
