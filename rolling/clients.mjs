// Clients of a rolling restart: keep-alive clients that send GET and POST, sessions of HTTP/2, readers of endless
// responses, and WebSockets that reconnect. They count what they lose.
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import { WebSocket } from 'ws';

const BODY = 'x'.repeat(1000);
/** An answer that takes longer is lost. */
const TIMEOUT_MS = 15_000;

const pause = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));

/** The counts of all clients of a trial. */
export class Tally {
  answered = 0;
  /** Requests without an answer of 200, by cause. */
  lost = {};
  /**
   * Requests lost on a connection that was idle longer than half of `preDrainDelayMs`: its end and the request can
   * cross (RFC 9112 9.5).
   */
  lostIdle = 0;
  /** Streams of HTTP/2 that the server refused unread, and which the client sent again (RFC 9113 8.7). */
  repeated = 0;
  echoes = 0;
  reconnects = 0;
  /** Endless responses (server-sent events) that ended with the last event of their server. */
  streamsMoved = 0;
  /** Endless responses that did not begin, or that broke off without it, by cause. */
  lostStreams = {};
  /** WebSockets that did not open, or that ended without a close frame, by cause. */
  lostSockets = {};

  add(where, cause) {
    where[cause] = (where[cause] ?? 0) + 1;
  }

  get lostInAll() {
    return Object.values(this.lost).reduce((sum, count) => sum + count, 0);
  }

  get lostStreamsInAll() {
    return Object.values(this.lostStreams).reduce((sum, count) => sum + count, 0);
  }

  get lostSocketsInAll() {
    return Object.values(this.lostSockets).reduce((sum, count) => sum + count, 0);
  }
}

/** Sends one request on a kept connection; resolves with its status. */
function ask(library, agent, port, method) {
  return new Promise((resolve, reject) => {
    const headers = method === 'POST' ? { 'content-length': BODY.length } : {};
    const request = library.request(
      {
        port,
        host: '127.0.0.1',
        method,
        path: '/',
        agent,
        headers,
        timeout: TIMEOUT_MS,
        rejectUnauthorized: false,
      },
      (response) => {
        response.on('error', reject);
        response.resume().on('end', () => resolve(response.statusCode));
      },
    );
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', reject);
    request.end(method === 'POST' ? BODY : undefined);
  });
}

/**
 * Reads an endless response on a connection of its own.
 * @param onRequest gets the request
 * @returns a promise of its text once it has ended; rejects if it breaks off
 */
function read(library, port, onRequest) {
  return new Promise((resolve, reject) => {
    const agent = new library.Agent({ keepAlive: false });
    const where = { port, host: '127.0.0.1', path: '/events', agent, rejectUnauthorized: false };
    const request = library.get(where, (response) => {
      let text = '';
      response.on('error', reject);
      response.setEncoding('utf8').on('data', (part) => (text += part));
      response.on('end', () =>
        response.statusCode === 200 ? resolve(text) : reject(new Error(response.statusCode)),
      );
    });
    request.on('error', reject);
    onRequest(request);
  });
}

/** Runs clients until `stop()`, which resolves when the last request has ended. */
export class Clients {
  #isOver = false;
  #ended = [];
  #sockets = new Set();
  #streams = new Set();

  /**
   * @param {object} given
   * @param {number} given.port of the balancer
   * @param {'http' | 'https' | 'h2'} given.scheme
   * @param {number} given.idleMs longest pause between an answer and the next request
   * @param {Tally} given.tally
   */
  constructor(given) {
    Object.assign(this, given);
  }

  /** Begins keep-alive clients, WebSockets, and readers of endless responses. */
  begin(count, sockets, streams) {
    const one = this.scheme === 'h2' ? () => this.#session() : () => this.#keepAlive();
    for (let i = 0; i < count; i++) this.#ended.push(one());
    for (let i = 0; i < sockets; i++) this.#ended.push(this.#webSocket());
    for (let i = 0; i < streams; i++) this.#ended.push(this.#stream());
  }

  async stop() {
    this.#isOver = true;
    for (const socket of this.#sockets) socket.close(1000);
    for (const request of this.#streams) request.destroy();
    await Promise.all(this.#ended);
  }

  async #repeat(send) {
    let lastMs = performance.now();
    while (!this.#isOver) {
      await pause(Math.random() * this.idleMs);
      const idleMs = performance.now() - lastMs;
      const method = Math.random() < 0.5 ? 'GET' : 'POST';
      try {
        const status = await send(method);
        if (status === 200) this.tally.answered++;
        else this.tally.add(this.tally.lost, status);
      } catch (error) {
        // The pause of a busy machine may be longer than was asked for.
        if (idleMs > this.idleMs + 50) this.tally.lostIdle++;
        else this.tally.add(this.tally.lost, error.code ?? error.message);
      }
      lastMs = performance.now();
    }
  }

  async #keepAlive() {
    const library = this.scheme === 'http' ? http : https;
    const agent = new library.Agent({ keepAlive: true, maxSockets: 1 });
    await this.#repeat((method) => ask(library, agent, this.port, method));
    agent.destroy();
  }

  async #session() {
    let session;
    const open = () => {
      const opened = http2.connect(`https://127.0.0.1:${this.port}`, { rejectUnauthorized: false });
      opened.on('error', () => undefined);
      opened.on('goaway', () => opened.close());
      return opened;
    };
    const send = (method) =>
      new Promise((resolve, reject) => {
        if (session === undefined || session.closed || session.destroyed) session = open();
        const stream = session.request({ ':method': method, ':path': '/' });
        let status = 0;
        let failure = new Error('closed');
        stream.setTimeout(TIMEOUT_MS, () => stream.destroy(new Error('no answer')));
        stream.on('response', (headers) => (status = headers[':status']));
        stream.on('error', (error) => (failure = error));
        stream.resume().on('close', () => {
          if (status !== 0) return resolve(status);
          if (stream.rstCode !== http2.constants.NGHTTP2_REFUSED_STREAM) return reject(failure);
          this.tally.repeated++;
          session = undefined;
          return resolve(send(method));
        });
        stream.end(method === 'POST' ? BODY : undefined);
      });
    await this.#repeat(send);
    session?.destroy();
  }

  async #stream() {
    const library = this.scheme === 'http' ? http : https;
    while (!this.#isOver) {
      let request;
      try {
        const text = await read(library, this.port, (made) => {
          request = made;
          this.#streams.add(made);
        });
        if (text.endsWith('event: bye\ndata:\n\n')) this.tally.streamsMoved++;
        else this.tally.add(this.tally.lostStreams, 'no last event');
      } catch (error) {
        if (!this.#isOver) this.tally.add(this.tally.lostStreams, error.code ?? error.message);
      }
      this.#streams.delete(request);
      await pause(20);
    }
  }

  async #webSocket() {
    const url = `${this.scheme === 'http' ? 'ws' : 'wss'}://127.0.0.1:${this.port}/ws`;
    while (!this.#isOver) {
      await new Promise((resolve) => {
        const socket = new WebSocket(url, { rejectUnauthorized: false });
        this.#sockets.add(socket);
        let cause;
        const send = () => socket.readyState === WebSocket.OPEN && socket.send('ping');
        socket.on('error', (error) => (cause ??= error.code ?? error.message));
        socket.on('open', send);
        socket.on('message', () => {
          this.tally.echoes++;
          setTimeout(send, 50);
        });
        socket.on('close', (code) => {
          this.#sockets.delete(socket);
          if (code === 1006) this.tally.add(this.tally.lostSockets, cause ?? 'no close frame');
          else if (!this.#isOver) this.tally.reconnects++;
          resolve();
        });
      });
      await pause(20);
    }
  }
}
