import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, it } from 'vitest';
import {
  type ConnectionLimits,
  ConnectionManager,
  type ConnectionManagerOptions,
  type ConnectionStats,
} from '../dist/index.js';
import { cleanUp, SERVERS, type Server, startAlone } from './servers/start.js';
import { until } from './fixtures/until.js';

// One limit over the processes of a host: real processes on Node and Bun, with real sockets and SIGKILL.

const isLinux = process.platform === 'linux';
const BUN = 'node_modules/.bin/bun';
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).toReversed()) await end();
  await cleanUp();
});

/** A name that no other test has. */
const aName = (): string => `test-${randomUUID()}`;
const filesOf = (): string[] => readdirSync('/dev/shm').filter((name) => name.includes('portcullis-'));

class Peer {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  readonly opened: Promise<unknown>;

  constructor(limits: ConnectionLimits, options: object, runtime = 'node') {
    const given = JSON.stringify({ limits, options });
    this.#child = spawn(runtime, ['__test__/fixtures/host-peer.mjs', given], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#answers = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    this.opened = this.#answer();
    ends.push(() => this.kill());
  }

  async #answer(): Promise<unknown> {
    const { value: line } = await this.#answers.next();
    const { value, error, message } = JSON.parse(line as string) as Record<string, unknown>;
    return error === undefined ? value : { error, message };
  }

  run(body: string): Promise<unknown> {
    this.#child.stdin!.write(`${JSON.stringify(body)}\n`);
    return this.#answer();
  }

  open(ip: string, user?: string): Promise<unknown> {
    return this.run(`return open(${JSON.stringify(ip)}, ${JSON.stringify(user)})`);
  }

  async stats(): Promise<ConnectionStats> {
    return (await this.run('return manager.snapshot()')) as ConnectionStats;
  }

  async end(signal?: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    if (signal === undefined) this.#child.stdin!.end();
    else this.#child.kill(signal);
    await gone;
  }

  kill(): Promise<void> {
    return this.end('SIGKILL');
  }
}

async function peers(
  count: number,
  limits: ConnectionLimits,
  options: ConnectionManagerOptions,
): Promise<Peer[]> {
  const all = Array.from(
    { length: count },
    (_, at) => new Peer(limits, options, at % 2 === 0 ? 'node' : BUN),
  );
  for (const peer of all) expect(await peer.opened).toBe('open');
  return all;
}

describe.runIf(isLinux)('one limit over the processes of a host', () => {
  it('holds for the sockets of servers on all hosts, and frees those of a killed one', async () => {
    const name = aName();
    const options = { limits: { maxConnectionsPerIp: 5 }, name, cluster: 'host' };
    const servers: (Server & { readonly process: ChildProcess })[] = [];
    for (const command of Object.values(SERVERS)) servers.push(await startAlone(command, options));
    for (const server of servers) await server.open();
    await servers[0]!.open();
    for (const server of servers)
      expect(await server.handshake()).toMatchObject({
        status: 429,
        body: expect.stringContaining('ip_limit') as string,
      });
    servers[0]!.process.kill('SIGKILL');
    const left = servers.slice(1);
    await until(async () => (await left[0]!.handshake()).status === 101);
    await left[0]!.becomes(1);
    await left[1]!.open();
    await left[2]!.open();
    expect((await left[0]!.handshake()).status).toBe(429);
  });
});
