// All clients, in one process. They speak WebSocket over Bun's sockets with frames that are made in
// advance: the clients must cost less than the server that they load. The process runs the phases
// that its parent sends, one at a time.
import { addresses, answer, limitsFor, messageOf, tokenOf } from './settings.mjs';

type RawSocket = Awaited<ReturnType<typeof Bun.connect<Peer>>>;

const END_OF_HEAD = Buffer.from('\r\n\r\n');
const PATIENCE_MS = 15_000;
const MASK = Buffer.from([0x5a, 0xc3, 0x17, 0x8e]);

/** Returns a frame of a client: final, masked, short. */
function frameOf(opcode: number, payload: Buffer): Buffer {
  if (payload.length > 125) throw new Error(`a payload of ${payload.length} bytes`);
  const frame = Buffer.alloc(6 + payload.length);
  frame[0] = 0x80 | opcode;
  frame[1] = 0x80 | payload.length;
  MASK.copy(frame, 2);
  for (let at = 0; at < payload.length; at++) frame[6 + at] = payload[at]! ^ MASK[at & 3]!;
  return frame;
}

/** Returns the frame in which a server sends a text. */
function answerFrameOf(text: string): Buffer {
  const payload = Buffer.from(text);
  if (payload.length > 125) throw new Error(`an answer of ${payload.length} bytes`);
  return Buffer.concat([Buffer.from([0x81, payload.length]), payload]);
}

const handshakeOf = (token: string, path = '/ws'): string =>
  `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nUser-Agent: load\r\nAuthorization: Bearer ${token}\r\n\r\n`;

const CLOSE = frameOf(8, Buffer.from([0x03, 0xe8]));
const [, , portText, countText] = process.argv;
const port = Number(portText);
const count = Number(countText);
const hosts = addresses(count);
const perIp = limitsFor(count).perIp;

/** Counts of failures: wrong answers, and messages that the kernel did not take. */
const wrong = { answers: 0, lost: 0 };
let onAnswer: (peer: Peer) => void = () => undefined;
let onGone: () => void = () => undefined;

/** One client. */
class Peer {
  socket: RawSocket | undefined;
  isOpen = false;
  /** Time at which its message was sent; -1 while it waits for no answer. */
  sentAtMs = -1;
  #rest: Buffer | undefined;
  readonly #frame: Buffer;
  readonly #expected: Buffer;

  constructor(
    readonly index: number,
    /** Called with the status of the answer to the handshake; 0 without an answer. */
    public onHead: (status: number, peer: Peer) => void,
    public handshake: string,
  ) {
    this.#frame = frameOf(1, Buffer.from(JSON.stringify(messageOf(index))));
    this.#expected = answerFrameOf(JSON.stringify(answer(messageOf(index))));
  }

  say(): void {
    this.sentAtMs = performance.now();
    this.write(this.#frame);
  }

  write(bytes: Buffer | string): void {
    // The kernel always takes a message whole: a client never has more than one in flight.
    if (this.socket?.write(bytes) !== bytes.length) wrong.lost++;
  }

  heard(chunk: Buffer): void {
    if (
      this.isOpen &&
      this.#rest === undefined &&
      chunk.length === this.#expected.length &&
      this.#expected.equals(chunk)
    )
      return onAnswer(this);
    const bytes = this.#rest === undefined ? chunk : Buffer.concat([this.#rest, chunk]);
    const left = this.isOpen ? this.#frames(bytes) : this.#head(bytes);
    this.#rest = left.length === 0 ? undefined : Buffer.from(left);
  }

  #head(bytes: Buffer): Buffer {
    const end = bytes.indexOf(END_OF_HEAD);
    if (end < 0) return bytes;
    const status = Number(bytes.toString('latin1', 9, 12));
    this.isOpen = status === 101;
    this.onHead(status, this);
    if (!this.isOpen) return bytes.subarray(bytes.length);
    return this.#frames(bytes.subarray(end + 4));
  }

  /**
   * Handles whole frames; returns the remaining bytes. No frame of these servers exceeds 125 bytes.
   */
  #frames(bytes: Buffer): Buffer {
    let at = 0;
    while (bytes.length - at >= 2 && bytes.length - at >= 2 + bytes[at + 1]!) {
      const frame = bytes.subarray(at, at + 2 + bytes[at + 1]!);
      at += frame.length;
      const opcode = frame[0]! & 0x0f;
      if (opcode === 9) this.write(frameOf(10, frame.subarray(2)));
      else if (opcode === 1 && this.#expected.equals(frame)) onAnswer(this);
      else if (opcode === 1) wrong.answers++;
    }
    return bytes.subarray(at);
  }

  gone(): void {
    if (this.socket === undefined) return;
    this.socket = undefined;
    const wasOpen = this.isOpen;
    this.isOpen = false;
    if (!wasOpen) this.onHead(0, this);
    onGone();
  }
}

const handlers = {
  open(socket: RawSocket) {
    socket.data.socket = socket;
    socket.data.write(socket.data.handshake);
  },
  data: (socket: RawSocket, chunk: Buffer) => socket.data.heard(chunk),
  close: (socket: RawSocket) => socket.data.gone(),
  error: (socket: RawSocket) => socket.data.gone(),
};

function connect(peer: Peer, address: string): void {
  Bun.connect({
    hostname: '127.0.0.1',
    port,
    localAddress: address,
    socket: handlers,
    data: peer,
  } as Parameters<typeof Bun.connect<Peer>>[0]).catch(() => peer.onHead(0, peer));
}

const peers: Peer[] = [];
const addressOf = (index: number): string => hosts[Math.floor(index / perIp)]!;
const progress = (part: number): void => void process.send?.({ progress: part });
const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/**
 * Runs `total` tasks, at most `most` of them at a time; returns the seconds. A task calls `over` at
 * its end.
 */
async function inParallel(
  total: number,
  most: number,
  begin: (index: number, over: () => void) => void,
): Promise<number> {
  const startMs = performance.now();
  await new Promise<void>((resolve) => {
    let begun = 0;
    let ended = 0;
    const next = (): void => {
      if (begun < total) begin(begun++, over);
    };
    const over = (): void => {
      if (++ended % 1000 === 0) progress(ended / total);
      if (ended === total) resolve();
      else next();
    };
    for (let index = 0; index < Math.min(most, total); index++) next();
  });
  return (performance.now() - startMs) / 1000;
}

const tally = (statuses: number[]): Record<string, number> =>
  statuses.reduce<Record<string, number>>(
    (sums, status) => ({ ...sums, [status]: (sums[status] ?? 0) + 1 }),
    {},
  );

async function connectAll({ inFlight }: { inFlight: number }) {
  peers.length = 0;
  const handshakes = Array.from({ length: count }, (_, index) =>
    handshakeOf(tokenOf(`user-${index}`)),
  );
  let open = 0;
  const seconds = await inParallel(count, inFlight, (index, over) => {
    const told = (status: number): void => {
      if (status === 101) open++;
      over();
    };
    const peer = new Peer(index, told, handshakes[index]!);
    peers.push(peer);
    connect(peer, addressOf(index));
  });
  for (const peer of peers) {
    peer.handshake = '';
    // From here on, the end of the connection is no answer to a handshake.
    peer.onHead = () => undefined;
  }
  return { open, seconds };
}

function summaryOf(trips: readonly number[]) {
  const sorted = trips.toSorted((a, b) => a - b);
  const at = (share: number): number =>
    sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? 0;
  return {
    meanMs: trips.reduce((sum, ms) => sum + ms, 0) / Math.max(1, trips.length),
    p50Ms: at(0.5),
    p99Ms: at(0.99),
    maxMs: at(1),
  };
}

/** Sends messages at a fixed rate, even if the server does not keep up. The clients take turns. */
async function steady({ rate, ms }: { rate: number; ms: number }) {
  const trips: number[] = [];
  onAnswer = (peer) => {
    if (peer.sentAtMs < 0) return void wrong.answers++;
    trips.push(performance.now() - peer.sentAtMs);
    peer.sentAtMs = -1;
  };
  const startMs = performance.now();
  const total = Math.floor((rate * ms) / 1000);
  let sent = 0;
  let late = 0;
  let turn = 0;
  while (sent < total) {
    // No sleep: a timer would send in bursts, and the clients have a core of their own.
    await nextTurn();
    const due = Math.min(total, Math.floor(((performance.now() - startMs) * rate) / 1000));
    for (; sent < due; sent++) {
      const peer = peers[turn++ % peers.length]!;
      // The client still waits for an answer, or is gone. A message that cannot be sent is an
      // error.
      if (peer.sentAtMs >= 0 || !peer.isOpen) late++;
      else peer.say();
    }
    if (turn % 500 === 0) progress(sent / total);
  }
  for (
    const endMs = performance.now() + PATIENCE_MS;
    trips.length + late < total && performance.now() < endMs;
  )
    await later(5);
  return { sent: total, answered: trips.length, ...summaryOf(trips) };
}

/**
 * Sends as many messages as the server takes: `inFlight` clients wait for an answer at any time.
 */
async function burst({ inFlight, ms }: { inFlight: number; ms: number }) {
  let answered = 0;
  let waiting = 0;
  let turn = 0;
  let isOver = false;
  const next = (): void => {
    for (let tries = 0; tries < peers.length; tries++) {
      const peer = peers[turn++ % peers.length]!;
      if (peer.sentAtMs >= 0 || !peer.isOpen) continue;
      waiting++;
      return peer.say();
    }
  };
  onAnswer = (peer) => {
    if (peer.sentAtMs < 0) return void wrong.answers++;
    peer.sentAtMs = -1;
    answered++;
    waiting--;
    if (!isOver) next();
  };
  const startMs = performance.now();
  for (let index = 0; index < Math.min(inFlight, peers.length); index++) next();
  await later(ms);
  isOver = true;
  const inTime = answered;
  const seconds = (performance.now() - startMs) / 1000;
  for (const endMs = performance.now() + PATIENCE_MS; waiting > 0 && performance.now() < endMs;)
    await later(5);
  return { answered, perSecond: inTime / seconds, unanswered: waiting };
}

/**
 * Connects clients that must be refused. From the addresses that are full every second one has a
 * forged token. Strangers come from addresses of no client, and their tokens are all good or all
 * forged.
 */
async function flood({
  total,
  inFlight,
  path,
  strangers,
  isForged = true,
}: {
  total: number;
  inFlight: number;
  path?: string;
  strangers?: readonly string[];
  isForged?: boolean;
}) {
  const good = handshakeOf(tokenOf('stranger'), path);
  const forged = handshakeOf(
    tokenOf('stranger', 'the secret of somebody else, of thirty-two bytes'),
    path,
  );
  const from = strangers ?? hosts;
  const isBad = (index: number): boolean => (strangers === undefined ? index % 2 === 1 : isForged);
  const statuses: Record<string, number> = {};
  const times = new Float64Array(total);
  const seconds = await inParallel(total, inFlight, (index, over) => {
    const startMs = performance.now();
    const told = (status: number, peer: Peer): void => {
      peer.onHead = () => undefined;
      statuses[status] = (statuses[status] ?? 0) + 1;
      times[index] = performance.now() - startMs;
      peer.socket?.end();
      over();
    };
    connect(
      new Peer(index % count, told, isBad(index) ? forged : good),
      from[index % from.length]!,
    );
  });
  times.sort();
  return { statuses, seconds, p99Ms: times[Math.ceil(total * 0.99) - 1] };
}

/** Closes one client of each address. */
async function depart() {
  const leaving = hosts.map((_, index) => peers[index * perIp]!);
  await leave(leaving);
  return { departed: leaving.length };
}

/** Connects two clients for each that has left: one of them must be admitted. */
async function replace() {
  const statuses: number[] = [];
  const newcomers: Peer[] = [];
  await inParallel(hosts.length * 2, 16, (index, over) => {
    const address = index >> 1;
    const told = (status: number, peer: Peer): void => {
      peer.onHead = () => undefined;
      statuses.push(status);
      if (status === 101) newcomers.push(peer);
      else peer.socket?.end();
      over();
    };
    connect(new Peer(address * perIp, told, handshakeOf(tokenOf(`new-${index}`))), hosts[address]!);
  });
  for (const peer of newcomers) peers[peer.index] = peer;
  return { statuses: tally(statuses) };
}

/**
 * Sends close frames (RFC 6455, section 7.1) and waits until the server has closed the connections.
 */
async function leave(leaving: readonly Peer[]): Promise<{ seconds: number; left: number }> {
  const startMs = performance.now();
  const open = () => leaving.filter((peer) => peer.socket !== undefined).length;
  let gone = 0;
  await new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, PATIENCE_MS);
    const expected = open();
    onGone = () => {
      if (++gone % 1000 === 0) progress(gone / expected);
      if (gone < expected) return;
      clearTimeout(timer);
      resolve();
    };
    if (expected === 0) resolve();
    for (const peer of leaving) if (peer.socket !== undefined) peer.write(CLOSE);
  });
  onGone = () => undefined;
  return { seconds: (performance.now() - startMs) / 1000, left: open() };
}

const phases: Record<string, (options: never) => Promise<object>> = {
  connect: connectAll,
  steady,
  burst,
  flood,
  depart,
  replace,
  leave: () => leave(peers),
};
process.on('message', ({ phase, options }: { phase: string; options: never }) => {
  phases[phase]!(options).then(
    (result) => process.send?.({ result: { ...result, wrong: { ...wrong } } }),
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});
process.on('disconnect', () => process.exit());
process.send?.({ ready: true });
