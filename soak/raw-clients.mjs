// Clients over bare sockets: they send bytes that no library would send.
import { connect } from 'node:net';

const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';

/** Returns the head of a handshake; `lines` replaces or adds headers. */
export function handshakeText(lines = {}, first = 'GET /ws HTTP/1.1') {
  const headers = {
    Host: '127.0.0.1',
    Connection: 'Upgrade',
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': KEY,
    ...lines,
  };
  return `${first}\r\n${Object.entries(headers)
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('')}\r\n`;
}

/** Returns a frame of a client, masked with zeros. */
export function frame(
  opcode,
  payload = Buffer.alloc(0),
  { fin = true, rsv = 0, isMasked = true, length = payload.length } = {},
) {
  const mask = isMasked ? 0x80 : 0;
  const first = (fin ? 0x80 : 0) | (rsv << 4) | opcode;
  const wide = Buffer.alloc(8);
  wide.writeBigUInt64BE(BigInt(length));
  const head =
    length < 126
      ? Buffer.of(first, mask | length)
      : length < 2 ** 16
        ? Buffer.of(first, mask | 126, wide[6], wide[7])
        : Buffer.of(first, mask | 127, ...wide);
  return Buffer.concat([head, isMasked ? Buffer.alloc(4) : Buffer.alloc(0), payload]);
}

/** A client: its socket and the bytes that it has received. */
export class RawClient {
  seen = Buffer.alloc(0);
  #wake = () => undefined;
  isClosed = false;

  /** @param {number} [source] chooses one of the loopback addresses, on Linux */
  constructor(port, source = 0) {
    const localAddress = process.platform === 'linux' ? `127.0.0.${2 + (source % 250)}` : undefined;
    this.socket = connect({ port, host: '127.0.0.1', localAddress, noDelay: true });
    this.socket.on('data', (data) => {
      // No trial reads the content of a flood.
      if (this.seen.length < 2 ** 16) this.seen = Buffer.concat([this.seen, data]);
      this.#wake();
    });
    this.closed = new Promise((resolve) => {
      const close = () => {
        this.isClosed = true;
        this.#wake();
        resolve();
      };
      this.socket.on('close', close);
      // libuv cannot reset a socket whose shutdown is under way (EINVAL); Node then emits no close.
      this.socket.on('error', ({ syscall }) => void (syscall === 'reset' && close()));
    });
  }

  write(data) {
    this.socket.write(data);
    return this;
  }

  /** Waits until the received bytes satisfy `test`; returns false if the socket closed first. */
  async sees(test) {
    while (!test(this.seen)) {
      if (this.isClosed) return false;
      await new Promise((resolve) => (this.#wake = resolve));
    }
    return true;
  }

  /** Returns the status of the answer; 0 without one. */
  async status() {
    await this.sees((seen) => seen.includes('\r\n\r\n'));
    return Number(/^HTTP\/1\.1 (\d+)/.exec(this.seen.toString('latin1'))?.[1] ?? 0);
  }

  /** Sends a handshake; returns true if the server accepts it. */
  async opens(lines = {}, first = undefined) {
    this.write(handshakeText(lines, first));
    return (await this.status()) === 101;
  }

  /** Resets the connection, without a close frame. */
  reset() {
    this.socket.resetAndDestroy();
    return this.closed;
  }
}
