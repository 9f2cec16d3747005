// The processes that the soak starts: servers, clients, and programs that run inside a host.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import http from 'node:http';
import { join } from 'node:path';
import { root, tool } from '../scripts/lib/project.mjs';
import { descriptorsOf } from './sockets.mjs';

/**
 * Timeout of a wait. Long, because a busy machine is no failure: it only ends a trial that has
 * failed.
 */
const PATIENCE_MS = 60_000;

/** The hosts by name: title, the command that runs a file, and the file of the server. */
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

/** A child process with its output. */
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
    /** Resolves at the end of the process, with its exit code or signal. */
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

  /** Waits until the output matches `pattern`; returns the match. */
  async says(pattern) {
    for (;;) {
      const match = pattern.exec(this.out);
      if (match !== null) return match;
      if (!this.isRunning)
        throw new Error(
          `${this.title} ended with ${await this.ended} before it printed ${pattern}\n${this.out}${this.err}`,
        );
      await Promise.race([once(this.child.stdout, 'data'), this.ended]);
    }
  }

  /** Ends the process with SIGKILL, which it cannot handle. */
  async kill() {
    this.child.kill('SIGKILL');
    await this.ended;
  }
}

/** Ends the processes that an aborted trial has left. */
export const killAll = () => Promise.all([...started].map((one) => one.kill()));

/** Calls `ask` until it returns `isDone`; returns the last `seen`. */
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

/** Descriptors other than sockets that a host opens late, for its own event loop. */
const DESCRIPTORS_SLACK = 8;

/** A server of a host. */
export class Server extends Process {
  static async start({ command, server }, options) {
    const self = new Server(command, [server], { SOAK_OPTIONS: JSON.stringify(options) });
    self.port = Number((await self.says(/listening on (\d+)/))[1]);
    self.first = await self.figures();
    // The socket of that question is closed within some turns.
    await new Promise((resolve) => void setTimeout(resolve, 50));
    self.atFirst = self.descriptors;
    return self;
  }

  /** Sockets and other descriptors that the process has open. */
  get descriptors() {
    return descriptorsOf(this.child.pid);
  }

  /** Sockets that the process has open beyond those of its start. */
  get sockets() {
    return this.descriptors.sockets - this.atFirst.sockets;
  }

  /** Waits until the process has at most `count` sockets beyond those of its start. */
  atMostSockets(count) {
    return until(`at most ${count} sockets`, () => {
      const seen = this.sockets;
      return { isDone: !(seen > count), seen };
    });
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

  /** Waits until `count` seats are taken and `count` sockets are open. */
  seats(count) {
    return until(`${count} seats`, async () => {
      const seen = await this.figures();
      return { isDone: seen.seats === count && seen.open === count, seen };
    });
  }

  /**
   * Ends the trial: all seats, timers, sockets and descriptors must be free, no error unhandled, and
   * the server still running.
   * @param waitsForClosing false to leave out the count of closing sockets, which Bun keeps for 16.5 s
   *   after its sockets are gone
   */
  async settle(waitsForClosing = true) {
    const seen = await until('an empty index, and no timer left', async () => {
      const now = await this.figures();
      const counts = [now.seats, now.ips, now.users, now.anonymous, now.live, now.open];
      const timers = now.timers - this.first.timers;
      return {
        isDone:
          counts.every((count) => count === 0) &&
          (waitsForClosing ? now.closing === 0 && timers === 0 : timers <= now.closing),
        seen: now,
      };
    });
    // Bun keeps the descriptor of a closed socket whose client does not answer for 16 s.
    await this.atMostSockets(0);
    const { descriptors } = this.descriptors;
    if (descriptors > this.atFirst.descriptors + DESCRIPTORS_SLACK)
      throw new Error(`${descriptors} descriptors are open, ${this.atFirst.descriptors} at first`);
    if (this.out.includes('unhandled')) throw new Error(`an unhandled error: ${this.out}`);
    if (!this.isRunning)
      throw new Error(`${this.title} has ended with ${await this.ended}\n${this.err}`);
    await this.kill();
    if (this.err !== '') throw new Error(`${this.title} printed errors: ${this.err}`);
    return seen;
  }
}

/** A process of clients, which a trial can stop or kill. */
export class ClientPool extends Process {
  static async start(port, count, options = {}) {
    const self = new ClientPool([process.execPath], ['soak/client-pool.mjs'], {
      CLIENT_POOL: JSON.stringify({ port, count, ...options }),
    });
    await self.says(/all are open/);
    return self;
  }
}
