// A Redis or Valkey server of the harness, and a client for it: commands in, replies out, nothing more.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const works = (name) => spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0;
const { CLUSTER_SERVER } = process.env;
if (CLUSTER_SERVER && !works(CLUSTER_SERVER))
  throw new Error(`CLUSTER_SERVER: ${CLUSTER_SERVER} is not a server that can be run`);

/** The server's command: `CLUSTER_SERVER`, or one from the PATH; `undefined` if there is none. */
export const SERVER = CLUSTER_SERVER || ['redis-server', 'valkey-server'].find(works);

/** Ports below those that a system gives out by itself: a server of another test may get such a one at any moment. */
const PORTS_FROM = 12_000;
const PORTS = 20_000;

/** Returns a free port. */
export async function freePort() {
  for (;;) {
    const port = PORTS_FROM + Math.floor(Math.random() * PORTS);
    const server = net.createServer();
    const isFree = await new Promise((done) => {
      server.once('error', () => done(false));
      server.listen(port, '127.0.0.1', () => done(true));
    });
    if (!isFree) continue;
    await new Promise((done) => server.close(done));
    return port;
  }
}

/** A server process. */
export class Redis {
  constructor(port, args = []) {
    this.port = port;
    this.args = args;
    this.folder = mkdtempSync(join(tmpdir(), 'portcullis-cluster-'));
  }

  async start() {
    const fixed = ['--port', this.port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
    const given = [...fixed, '--loglevel', 'warning', '--dir', this.folder, ...this.args];
    // A Sentinel has a command of its own.
    this.process = spawn(SERVER, (this.command ?? given).map(String), { stdio: 'ignore' });
    for (let left = 100; ; left--) {
      try {
        const client = await Client.to(this.port);
        await client.call('PING');
        client.close();
        return this;
      } catch (error) {
        // It is there, and wants a password.
        if (error.message.startsWith('NOAUTH')) return this;
        const { exitCode } = this.process;
        if (exitCode !== null)
          throw new Error(`${SERVER} has ended with ${exitCode}`, { cause: error });
        if (left === 0) throw error;
        await sleep(50);
      }
    }
  }

  signal(name) {
    this.process.kill(name);
  }

  /** Ends the process; what it held is lost. */
  async kill() {
    const { process } = this;
    this.process = undefined;
    // One that has ended by itself tells of it no more.
    if (process === undefined || process.exitCode !== null || process.signalCode !== null) return;
    const ended = new Promise((done) => process.once('exit', done));
    process.kill('SIGCONT');
    process.kill('SIGKILL');
    await ended;
  }

  async remove() {
    await this.kill();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Reads one reply; returns it and the rest, or `undefined` if it is not whole. */
function parse(bytes, at) {
  const end = bytes.indexOf('\r\n', at);
  if (end === -1) return undefined;
  const line = bytes.toString('latin1', at + 1, end);
  const next = end + 2;
  switch (bytes[at]) {
    case 43: // +
      return [line, next];
    case 45: // -
      return [new Error(line), next];
    case 58: // :
      return [Number(line), next];
    case 36: {
      const length = Number(line);
      if (length === -1) return [null, next];
      if (bytes.length < next + length + 2) return undefined;
      return [bytes.subarray(next, next + length), next + length + 2];
    }
    case 42: {
      const list = [];
      let from = next;
      for (let left = Number(line); left > 0; left--) {
        const one = parse(bytes, from);
        if (one === undefined) return undefined;
        list.push(one[0]);
        from = one[1];
      }
      return [list, from];
    }
    default:
      throw new Error(`not a reply: ${line}`);
  }
}

/** A connection to a server. Texts come as buffers. */
export class Client {
  static async to(port) {
    const client = new Client();
    client.socket = net.connect(port, '127.0.0.1');
    client.waiting = [];
    client.bytes = Buffer.alloc(0);
    await new Promise((done, failed) => {
      client.socket.once('connect', done);
      client.socket.once('error', failed);
    });
    client.socket.on('data', (data) => client.#read(data));
    const end = () => client.waiting.splice(0).forEach(({ failed }) => failed(new Error('closed')));
    client.socket.on('close', end).on('error', end);
    return client;
  }

  #read(data) {
    this.bytes = Buffer.concat([this.bytes, data]);
    let at = 0;
    for (let reply; at < this.bytes.length && (reply = parse(this.bytes, at));) {
      at = reply[1];
      const { done, failed } = this.waiting.shift();
      if (reply[0] instanceof Error) failed(reply[0]);
      else done(reply[0]);
    }
    this.bytes = this.bytes.subarray(at);
  }

  call(...parts) {
    const texts = parts.map((part) => (Buffer.isBuffer(part) ? part : Buffer.from(String(part))));
    this.socket.write(
      Buffer.concat([
        Buffer.from(`*${texts.length}\r\n`),
        ...texts.flatMap((text) => [Buffer.from(`$${text.length}\r\n`), text, Buffer.from('\r\n')]),
      ]),
    );
    return new Promise((done, failed) => this.waiting.push({ done, failed }));
  }

  close() {
    this.socket.destroy();
  }
}

/** Runs commands on a connection of their own. */
export async function withClient(port, act) {
  const client = await Client.to(port);
  try {
    return await act(client);
  } finally {
    client.close();
  }
}
