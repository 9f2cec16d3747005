// Processes that the soak starts: servers, clients, and what is run inside a host.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { join } from 'node:path';
import { root, tool } from '../scripts/lib/project.mjs';

/** Long enough for a machine that is busy with other things: it ends a trial that has failed, and decides nothing else. */
const PATIENCE_MS = 60_000;

/** Every host by its name: the command that runs a file, and the server. */
export const HOSTS = {
  ws: {
    title: 'Node, ws',
    command: [process.execPath, '--expose-gc'],
    server: 'soak/hosts/ws.mjs',
  },
  elysia: { title: 'Bun, Elysia', command: [tool('bun')], server: 'soak/hosts/elysia.ts' },
  bun: { title: 'Bun, bare', command: [tool('bun')], server: 'soak/hosts/bun.ts' },
};

const started = new Set();

/** A process of its own. */
export class Process {
  out = '';
  err = '';

  /**
   * @param {readonly string[]} command and its flags
   * @param {readonly string[]} args the first is a file of the project
   */
  constructor([command, ...flags], [file, ...args], env = {}) {
    this.title = [file, ...args].join(' ');
    const child = spawn(command, [...flags, join(root, file), ...args], {
      cwd: root,
      env: { ...process.env, NODE_OPTIONS: '', ...env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.child = child;
    started.add(this);
    child.stdout.on('data', (data) => (this.out += data));
    child.stderr.on('data', (data) => (this.err += data));
    child.stdin.on('error', () => undefined);
    /** How it ended: its exit code, or the signal. */
    this.ended = new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', (code, signal) => {
        started.delete(this);
        resolve(signal ?? code);
      });
    });
    this.ended.catch(() => undefined);
  }

  get isRunning() {
    return started.has(this);
  }

  /** Waits for a line of its output: what `pattern` matches. */
  async says(pattern) {
    for (;;) {
      const match = pattern.exec(this.out);
      if (match !== null) return match;
      if (!this.isRunning)
        throw new Error(
          `${this.title} ended with ${await this.ended} before it said ${pattern}\n${this.out}${this.err}`,
        );
      await Promise.race([once(this.child.stdout, 'data'), this.ended]);
    }
  }

  /** Ends it as nothing else does. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Ends what an aborted trial has left. */
export const killAll = () => Promise.all([...started].map((one) => one.kill()));

/** Asks until `ask` is content; then its answer. */
export async function until(what, ask) {
  let last;
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end;) {
    const { isDone, seen } = await ask();
    if (isDone) return seen;
    last = seen;
    await new Promise((resolve) => void setTimeout(resolve, 20));
  }
  throw new Error(`${what}: not within ${PATIENCE_MS / 1000} s; last seen ${JSON.stringify(last)}`);
}

/** A server of a host. */
export class Server extends Process {
  static async start({ command, server }, options) {
    const self = new Server(command, [server], { SOAK_OPTIONS: JSON.stringify(options) });
    self.port = Number((await self.says(/listening on (\d+)/))[1]);
    self.first = await self.figures();
    return self;
  }

  get(path) {
    return new Promise((resolve, reject) => {
      const request = http.get(
        { host: '127.0.0.1', port: this.port, path, agent: false },
        (response) => {
          let text = '';
          response.on('data', (data) => (text += data));
          response.on('end', () => resolve(text));
          response.on('error', reject);
        },
      );
      request.on('error', (error) =>
        reject(
          new Error(`${this.title} does not answer: ${error.message}\n${this.out}${this.err}`),
        ),
      );
    });
  }

  async figures() {
    return JSON.parse(await this.get('/figures'));
  }

  async memory() {
    return JSON.parse(await this.get('/memory'));
  }

  /** Waits until so many seats are taken. */
  seats(count) {
    return until(`${count} seats`, async () => {
      const seen = await this.figures();
      return { isDone: seen.seats === count && seen.open === count, seen };
    });
  }

  /** Ends the trial: everything has been given back, nothing has gone unheard, and the server still stands. */
  async settle() {
    const seen = await until('an empty index, and no timer left', async () => {
      const now = await this.figures();
      const counts = [now.seats, now.ips, now.users, now.anonymous, now.live, now.open];
      return {
        isDone: counts.every((count) => count === 0) && now.timers === this.first.timers,
        seen: now,
      };
    });
    if (this.out.includes('unheard')) throw new Error(`an error that nobody heard: ${this.out}`);
    if (!this.isRunning)
      throw new Error(`${this.title} has ended with ${await this.ended}\n${this.err}`);
    await this.kill();
    if (this.err !== '') throw new Error(`${this.title} complained: ${this.err}`);
    return seen;
  }
}

/** Clients in a process of their own, which a trial may stop or kill. */
export class ClientPool extends Process {
  static async start(port, count, options = {}) {
    const self = new ClientPool([process.execPath], ['soak/client-pool.mjs'], {
      CLIENT_POOL: JSON.stringify({ port, count, ...options }),
    });
    await self.says(/all are open/);
    return self;
  }
}
