import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
    ends.push(() => this.end());
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
    // The servers are killed: whoever comes next removes their file.
    ends.push(async () => {
      await cleanUp();
      new ConnectionManager({}, { name, cluster: 'host' }).close();
    });
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

  const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0;
  it.skipIf(!hasPrlimit)(
    `leaves no file behind that it has no address space for${hasPrlimit ? '' : ' (skipped: no prlimit)'}`,
    () => {
      // A file of 205 MB, and address space for 150 MB more.
      const script = `
        const { spawnSync } = require('node:child_process');
        const { readFileSync } = require('node:fs');
        const { ConnectionManager } = require('./dist/index.cjs');
        const open = (name) =>
          new ConnectionManager({}, { name, cluster: 'host', hostCapacity: 2 ** 20 }).close();
        const usedKb = Number(/VmSize:\\s+(\\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);
        spawnSync('prlimit', ['--pid', process.pid, '--as=' + (usedKb + 150_000) * 1024]);
        try {
          open('${aName()}');
        } catch ({ code, message }) {
          console.log(JSON.stringify({ code, message }));
        }`;
      // The engine itself must get by: without an arena for each of its threads, and without collections.
      const env = { ...process.env, MALLOC_ARENA_MAX: '1' };
      const args = ['--min-semi-space-size=16', '-e', script];
      const { stdout } = spawnSync('node', args, { encoding: 'utf8', env });
      const { code, message } = JSON.parse(stdout) as Record<'code' | 'message', string>;
      const [, file, problem] = /(\/dev\/shm\/[^:]+): (.*)/.exec(message) ?? [];
      expect([code, problem]).toEqual(['ERR_HOST_FILE', 'Cannot allocate memory (os error 12)']);
      expect(existsSync(file!)).toBe(false);
    },
  );

  it.each(['0777', '0277'])('keeps the rights of its file under the umask %s', (umask) => {
    const script = `
      const { readdirSync, statSync } = require('node:fs');
      const { ConnectionManager } = require('./dist/index.cjs');
      const files = () => readdirSync('/dev/shm').filter((name) => name.startsWith('portcullis-'));
      process.umask(0o${umask});
      const before = files();
      const manager = new ConnectionManager({}, { name: '${aName()}', cluster: 'host' });
      const [own] = files().filter((name) => !before.includes(name));
      console.log((statSync('/dev/shm/' + own).mode & 0o777).toString(8));
      manager.close();`;
    const { stdout } = spawnSync('node', ['-e', script], { encoding: 'utf8' });
    expect(stdout).toBe('600\n');
  });

  const hasCc = spawnSync('cc', ['--version']).status === 0;
  it.skipIf(!hasCc)(
    `says so at once where there can be no locks, and leaves no file${hasCc ? '' : ' (skipped: no cc)'}`,
    () => {
      const folder = mkdtempSync(join(tmpdir(), 'portcullis-locks-'));
      ends.push(() => rmSync(folder, { recursive: true }));
      // Refuses the locks as a sandbox does.
      const source = `
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        #define REFUSING(name) \\
          int name(int fd, int cmd, ...) { \\
            va_list list; va_start(list, cmd); void *arg = va_arg(list, void *); va_end(list); \\
            if (cmd == F_OFD_SETLK) { errno = EINVAL; return -1; } \\
            int (*real)(int, int, ...) = dlsym(RTLD_NEXT, #name); \\
            return real(fd, cmd, arg); \\
          }
        REFUSING(fcntl)
        REFUSING(fcntl64)`;
      const library = join(folder, 'no-locks.so');
      const compiler = ['-shared', '-fPIC', '-x', 'c', '-', '-o', library, '-ldl'];
      const compiled = spawnSync('cc', compiler, { input: source, encoding: 'utf8' });
      expect(compiled.stderr).toBe('');
      const script = `
        const { ConnectionManager } = require('./dist/index.cjs');
        try {
          new ConnectionManager({}, { name: '${aName()}', cluster: 'host' });
        } catch ({ code, message }) {
          console.log(JSON.stringify({ code, message }));
        }`;
      const env = { ...process.env, LD_PRELOAD: library };
      const { stdout } = spawnSync('node', ['-e', script], { encoding: 'utf8', env });
      const { code, message } = JSON.parse(stdout) as Record<'code' | 'message', string>;
      const [, file, problem] = /(\/dev\/shm\/[^:]+): (.*)/.exec(message) ?? [];
      expect([code, problem]).toEqual([
        'ERR_HOST_FILE',
        'it cannot be locked: Invalid argument (os error 22)',
      ]);
      expect(existsSync(file!)).toBe(false);
    },
  );

  it('refuses the last seat to all but one, whichever process asks', async () => {
    const name = aName();
    const all = await peers(3, { maxConnectionsPerUser: 2, maxTotalConnections: 4 }, { name });
    expect(await all[0]!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await all[1]!.open('192.0.2.2', 'ada')).toBe('granted');
    expect(await all[2]!.open('192.0.2.3', 'ada')).toBe('user_limit');
    expect(await all[2]!.open('192.0.2.3', 'eve')).toBe('granted');
    expect(await all[2]!.open('192.0.2.3')).toBe('granted');
    expect(await all[0]!.open('192.0.2.4', 'bob')).toBe('total_limit');
    for (const peer of all) {
      const { host } = await peer.stats();
      expect(host).toEqual({ totalConnections: 4, anonymousConnections: 1, processes: 3 });
    }
    // A seat that one process gives back is free in all of them at once.
    await all[1]!.run('manager.close()');
    expect(await all[0]!.open('192.0.2.4', 'ada')).toBe('granted');
    expect(await all[2]!.open('192.0.2.4', 'ada')).toBe('total_limit');
  });

  it('counts logins, prefixes, leases and clients without an address', async () => {
    const limits = {
      maxConnectionsPerUser: 1,
      maxConnectionsPerIp: 2,
      maxAnonymousConnectionsPerIp: 1,
      maxUnknownIpConnections: 1,
    };
    const [first, second] = await peers(2, limits, { name: aName() });
    expect(await first!.open('2001:db8::1', 'a')).toBe('granted');
    expect(await second!.open('2001:db8::2', 'b')).toBe('granted');
    expect(await first!.open('2001:db8::3', 'c')).toBe('prefix_limit');
    expect(await first!.open('nowhere', 'd')).toBe('granted');
    expect(await second!.open('elsewhere', 'e')).toBe('unknown_ip_limit');
    const login =
      'const { connection } = manager.addConnection("x", new FakeSocket(), "192.0.2.9");';
    const bind = (user: string) =>
      `${login} const bound = connection.bindUser("${user}"); return bound.success || bound.code`;
    expect(await first!.run(bind('a'))).toBe('user_limit');
    expect(await second!.open('192.0.2.9')).toBe('anonymous_ip_limit');
    expect(await first!.run('return manager.connections.get("x").bindUser("f").success')).toBe(
      true,
    );
    expect(await second!.open('192.0.2.8', 'f')).toBe('user_limit');
    expect(await second!.open('192.0.2.9')).toBe('granted');
    const lease = (end: string) =>
      `const lease = manager.reserve("192.0.2.7", "g"); if (lease.success) globalThis.lease = lease; ${end}`;
    expect(await first!.run(lease('return lease.success'))).toBe(true);
    expect(await second!.run(lease('return lease.code'))).toBe('user_limit');
    expect(await first!.run('return manager.abort(globalThis.lease)')).toBe(true);
    expect(await second!.run(lease('return lease.success'))).toBe(true);
  });

  it('changes limits for all processes, and replaces only connections of its own', async () => {
    const options = { name: aName(), onFull: 'closeOldest' } as const;
    const [first, second] = await peers(2, { maxConnectionsPerUser: 2 }, options);
    expect(await first!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await first!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await second!.open('192.0.2.1', 'ada')).toBe('user_limit');
    expect(await first!.open('192.0.2.1', 'ada')).toBe('granted');
    expect((await first!.stats()).host).toMatchObject({ totalConnections: 2 });
    await second!.run('manager.updateLimits({ maxConnectionsPerUser: 3 })');
    expect(await second!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await first!.run('manager.updateLimits({ maxConnectionsPerIp: 3 })')).toMatchObject({
      error: 'ERR_OUT_OF_RANGE',
    });
    // `drain` is the process's own.
    await first!.run('manager.drain()');
    expect(await first!.open('192.0.2.1', 'eve')).toBe('draining');
    expect(await second!.open('192.0.2.1', 'eve')).toBe('granted');
  });

  it('observes in the process that says so, and in no other', async () => {
    const [first, second] = await peers(2, { maxConnectionsPerUser: 1 }, { name: aName() });
    await second!.run("manager.updateLimits({ mode: 'observe' })");
    expect(await first!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await first!.open('192.0.2.1', 'ada')).toBe('user_limit');
    expect(await second!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await second!.stats()).toMatchObject({
      limits: { mode: 'observe' },
      observed: { user_limit: 1 },
    });
    const { limits, observed } = await first!.stats();
    expect([limits, observed]).toEqual([{ maxConnectionsPerUser: 1 }, {}]);
    await second!.run("manager.updateLimits({ mode: 'enforce' })");
    expect(await second!.open('192.0.2.1', 'ada')).toBe('user_limit');
  });

  it('sets a limit that another process has changed meanwhile, and shows what is in force', async () => {
    const [first, second] = await peers(2, { maxConnectionsPerUser: 1 }, { name: aName() });
    await second!.run('manager.updateLimits({ maxConnectionsPerUser: 3 })');
    expect((await first!.stats()).limits).toEqual({ maxConnectionsPerUser: 3 });
    // The value that this process began with.
    await first!.run('manager.updateLimits({ maxConnectionsPerUser: 1 })');
    for (const peer of [first!, second!])
      expect((await peer.stats()).limits).toEqual({ maxConnectionsPerUser: 1 });
    expect(await second!.open('192.0.2.1', 'ada')).toBe('granted');
    expect(await first!.open('192.0.2.1', 'ada')).toBe('user_limit');
    // Another limit of the other process: this one stays.
    await second!.run(
      'manager.updateLimits({ maxTotalConnections: 9, connectionTimeoutMs: 1000 })',
    );
    expect(await first!.open('192.0.2.1', 'ada')).toBe('user_limit');
    expect((await first!.stats()).limits).toEqual({
      maxConnectionsPerUser: 1,
      maxTotalConnections: 9,
    });
  });

  it('gives the seats of a worker back, and shares a column with it', async () => {
    const name = aName();
    const [peer] = await peers(1, { maxConnectionsPerIp: 3 }, { name });
    const code = `
      const { ConnectionManager } = await import(${JSON.stringify(new URL('../dist/index.js', import.meta.url).href)});
      const manager = new ConnectionManager({ maxConnectionsPerIp: 3 }, { name: ${JSON.stringify(name)}, cluster: 'host' });
      manager.addConnection('w', { close() {} }, '192.0.2.1');
      (await import('node:worker_threads')).parentPort.postMessage('open');
      setInterval(() => undefined, 1000);`;
    await peer!.run(
      `const { Worker } = process.getBuiltinModule('node:worker_threads');
       globalThis.worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(code)})));
       globalThis.worker.once('message', () => (globalThis.isOpen = true));`,
    );
    await until(async () => (await peer!.run('return globalThis.isOpen === true')) === true);
    expect((await peer!.stats()).host).toMatchObject({ totalConnections: 1, processes: 1 });
    await peer!.run('globalThis.worker.terminate()');
    await until(async () => (await peer!.stats()).host?.totalConnections === 0);
  });

  it('frees the seats of killed processes, again and again, and removes its file at the end', async () => {
    const name = aName();
    const limits = { maxConnectionsPerUser: 4 };
    const [keeper] = await peers(1, limits, { name });
    for (let round = 0; round < 6; round++) {
      const others = await peers(3, limits, { name });
      for (const peer of others) expect(await peer.open('192.0.2.1', 'ada')).toBe('granted');
      expect(await keeper!.open('192.0.2.1', 'ada')).toBe('granted');
      for (const peer of others) expect(await peer.open('192.0.2.1', 'ada')).toBe('user_limit');
      await Promise.all(others.map((peer) => peer.kill()));
      await until(async () => (await keeper!.stats()).host?.processes === 1);
      expect((await keeper!.stats()).host).toMatchObject({ totalConnections: 1 });
      await keeper!.run(
        'for (const connection of manager.connections.values()) manager.release(connection)',
      );
    }
    const maps = "process.getBuiltinModule('node:fs').readFileSync('/proc/self/maps', 'utf8')";
    const [path = ''] = /\/dev\/shm\/portcullis-\S+/.exec(
      (await keeper!.run(`return ${maps}`)) as string,
    )!;
    expect(existsSync(path)).toBe(true);
    await keeper!.end();
    expect(existsSync(path)).toBe(false);
  });

  it('refuses other limits and sizes than those of running processes', async () => {
    const name = aName();
    const limits = { maxConnectionsPerUser: 4 };
    const [first] = await peers(1, limits, { name });
    const opened = (given: ConnectionLimits, options: object): Promise<unknown> =>
      new Peer(given, { name, ...options }, BUN).opened;
    const conflict = (field: string) => ({
      error: 'ERR_LIMITS_CONFLICT',
      message: expect.stringContaining(field) as string,
    });
    expect(await opened({ maxConnectionsPerUser: 5 }, {})).toEqual(
      conflict('maxConnectionsPerUser'),
    );
    expect(await opened(limits, { hostCapacity: 2048 })).toEqual(conflict('hostCapacity'));
    expect(await opened(limits, { hostProcesses: 64 })).toEqual(conflict('hostProcesses'));
    await first!.kill();
    expect(await opened({ maxConnectionsPerUser: 5 }, { hostCapacity: 2048 })).toBe('open');
  });

  it('refuses clients that find no place with a code of its own', async () => {
    const options = { name: aName(), hostCapacity: 1024 };
    const [first, second] = await peers(2, { maxConnectionsPerIp: 1 }, options);
    const flood = `const codes = {};
      for (let at = 0; at < 4000; at++) {
        const code = open('10.0.' + (at >> 8) + '.' + (at & 255));
        codes[code] = (codes[code] ?? 0) + 1;
      }
      return codes`;
    const codes = (await first!.run(flood)) as Record<string, number>;
    expect(codes['granted']).toBeGreaterThanOrEqual(1024);
    expect(codes['host_full']).toBe(4000 - codes['granted']!);
    await first!.run('manager.close()');
    expect(await second!.open('10.9.9.9')).toBe('granted');
  });

  it('refuses too many processes', async () => {
    const options = { name: aName(), hostProcesses: 2 };
    const all = await peers(1, {}, options);
    for (let at = 1; at < 16; at++) {
      const peer = new Peer({}, options);
      all.push(peer);
    }
    for (const peer of all.slice(1)) expect(await peer.opened).toBe('open');
    expect(await new Peer({}, options).opened).toMatchObject({ error: 'ERR_CLUSTER_FULL' });
  });
});

describe("the option cluster: 'host'", () => {
  const codeOf = (options: object, limits: ConnectionLimits = {}): string | undefined => {
    try {
      new ConnectionManager(limits, options as ConnectionManagerOptions).close();
      return undefined;
    } catch (error) {
      const { code, field } = error as { code: string; field?: string };
      return `${code} ${field}`;
    }
  };

  it('is checked with its sizes', () => {
    expect(codeOf({ cluster: 'host' })).toBe('ERR_INVALID_ARG_TYPE name');
    expect(codeOf({ cluster: 'hosts', name: 'a' })).toBe('ERR_INVALID_ARG_TYPE cluster');
    expect(codeOf({ hostCapacity: 4096 })).toBe('ERR_OUT_OF_RANGE hostCapacity');
    expect(codeOf({ hostProcesses: 4, name: 'a' })).toBe('ERR_OUT_OF_RANGE hostProcesses');
    for (const size of [0, 1023, 2 ** 24 + 1, 1.5, NaN])
      expect(codeOf({ cluster: 'host', name: 'a', hostCapacity: size })).toBe(
        'ERR_OUT_OF_RANGE hostCapacity',
      );
    for (const size of [1, 257])
      expect(codeOf({ cluster: 'host', name: 'a', hostProcesses: size })).toBe(
        'ERR_OUT_OF_RANGE hostProcesses',
      );
  });

  it.runIf(!isLinux)('is refused elsewhere than on Linux', () => {
    expect(codeOf({ cluster: 'host', name: 'a' })).toBe('ERR_UNSUPPORTED cluster');
  });

  it.runIf(isLinux)('refuses other rates of a second manager of the process', () => {
    const options = { name: aName(), cluster: 'host' } as const;
    const limits = { maxConnectionsPerUser: 5, connectRatePerIp: { limit: 5, windowMs: 1000 } };
    const manager = new ConnectionManager(limits, options);
    ends.push(() => manager.close());
    expect(codeOf(options, limits)).toBeUndefined();
    const rate = { limit: 1, windowMs: 1000 };
    for (const field of [
      'connectRatePerIp',
      'connectRatePerUser',
      'messageRatePerUser',
      'messageRatePerIp',
    ])
      expect(() => new ConnectionManager({ ...limits, [field]: rate }, options)).toThrow(
        expect.objectContaining({
          code: 'ERR_LIMITS_CONFLICT',
          field: 'name',
          value: `"${options.name.slice(0, 40)}…"`,
          message: expect.stringMatching(
            `^the name "test-.*" is open on this host with another ${field}$`,
          ) as string,
        }),
      );
  });

  it.runIf(isLinux)('names the limit that would have refused first, as one process does', () => {
    const rate = { limit: 1, windowMs: 60_000 };
    const limits = { maxConnectionsPerUser: 1, connectRatePerIp: rate, connectRatePerUser: rate };
    const codes = (['enforce', 'observe'] as const).flatMap((mode) =>
      [{}, { cluster: 'host' } as const].map((options) => {
        const told: string[] = [];
        const tell = ({ code }: { code: string }): void => void told.push(code);
        using manager = new ConnectionManager(
          { mode, ...limits },
          { name: aName(), ...options, onRefuse: tell, onObserve: tell },
        );
        for (const id of ['a', 'b'])
          manager.addConnection(id, { close: () => undefined }, '192.0.2.1', 'ada');
        return told;
      }),
    );
    expect(codes).toEqual([['ip_rate'], ['ip_rate'], ['ip_rate'], ['ip_rate']]);
  });

  it.runIf(isLinux)('observes limits without refusing', () => {
    const manager = new ConnectionManager(
      { maxConnectionsPerIp: 1, mode: 'observe' },
      { name: aName(), cluster: 'host' },
    );
    ends.push(() => manager.close());
    for (const id of ['a', 'b'])
      expect(manager.addConnection(id, { close: () => undefined }, '192.0.2.1').success).toBe(true);
    expect(manager.snapshot().observed).toEqual({ ip_limit: 1 });
  });
});
