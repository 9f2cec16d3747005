// A TCP proxy between one process and the server, which can cut, hold, slow and repeat what passes.
import net from 'node:net';

/** Longest record of a connection, bytes. */
const RECORD_MAX = 2 ** 24;

export class Proxy {
  /** @param upstream returns the port of the server */
  constructor(upstream) {
    this.upstream = upstream;
    this.isHeld = false;
    this.delayMs = 0;
    this.pairs = new Set();
    this.held = [];
    /** Bytes that the process sent on connections that are closed. */
    this.records = [];
  }

  async listen() {
    this.server = net.createServer((socket) => this.#accept(socket));
    await new Promise((done) => this.server.listen(0, '127.0.0.1', done));
    this.port = this.server.address().port;
    return this;
  }

  #accept(near) {
    const far = net.connect(this.upstream(), '127.0.0.1');
    const pair = { near, far, record: [], size: 0 };
    this.pairs.add(pair);
    near.on('data', (data) => {
      if (pair.size < RECORD_MAX) pair.record.push(data);
      pair.size += data.length;
      this.#pass(far, data);
    });
    far.on('data', (data) => this.#pass(near, data));
    const end = () => {
      near.destroy();
      far.destroy();
      if (!this.pairs.delete(pair)) return;
      if (pair.size < RECORD_MAX) this.records.push(Buffer.concat(pair.record));
      if (this.records.length > 4) this.records.shift();
    };
    for (const socket of [near, far]) socket.setNoDelay(true).on('close', end).on('error', end);
  }

  #pass(to, data) {
    const write = () => void (to.destroyed || to.write(data));
    if (this.isHeld) this.held.push(write);
    else if (this.delayMs > 0) setTimeout(write, this.delayMs);
    else write();
  }

  /** Cuts all connections; without them the process makes new ones. */
  drop() {
    for (const { near, far } of this.pairs) {
      near.destroy();
      far.destroy();
    }
  }

  /** Holds all bytes back, both ways: neither end learns of it. */
  hold() {
    this.isHeld = true;
  }

  /** Lets the held bytes through. */
  resume() {
    this.isHeld = false;
    for (const write of this.held.splice(0)) write();
  }

  /** Loses the held bytes, and cuts the connections. */
  lose() {
    this.held = [];
    this.isHeld = false;
    this.drop();
  }

  /** Sends everything of a closed connection once more: late copies of all its calls. */
  repeat() {
    const record = this.records[Math.floor(Math.random() * this.records.length)];
    if (record === undefined) return false;
    const socket = net.connect(this.upstream(), '127.0.0.1');
    socket.on('error', () => undefined).resume();
    socket.write(record);
    setTimeout(() => socket.destroy(), 500);
    return true;
  }

  close() {
    this.server.close();
    this.drop();
  }
}
