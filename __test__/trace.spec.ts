import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { type PossibleTrace, Tracer } from '../dist/base/trace.js';
import { InFlightRequest, RequestLimiter } from '../dist/http/request-limiter.js';
import {
  ProductionMetrics,
  type RequestTrace,
  resourceLimits,
  ResourceMonitor,
  type Stall,
  TimerManager,
} from '../dist/index.js';
import { RunningRequest, RunningRequests, StalledRequests } from '../dist/resources/running.js';
import { FakeSocket } from '../dist/testing.js';
import { connectionOf, portcullis, type WsGuardOptions } from '../dist/ws.js';
import { until } from './fixtures/until.js';

const TRACEPARENT = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
const UUID = /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/;
const FOLDER = mkdtempSync(join(tmpdir(), 'portcullis-trace-'));
const LOG = join(FOLDER, 'stalls.log');
const opened: { close(): unknown }[] = [];

afterAll(() => rmSync(FOLDER, { recursive: true, force: true }));

afterEach(() => {
  for (const one of opened.splice(0).toReversed()) one.close();
});

/** A random source that each run repeats. */
function dice(seed = 7): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * most);
  };
}

const traceOf = (headers: Record<string, unknown>, option?: unknown): RequestTrace =>
  new Tracer(option).of({ headers: headers as never });

const values = ({ requestId, traceparent }: PossibleTrace): object => ({
  requestId,
  traceparent,
});

describe('the trace of a request', () => {
  it('is its header and its traceparent, by the name of the option', () => {
    const headers = { 'x-request-id': 'a', 'x-amzn-trace-id': 'Root=1-2;Self=3' };
    expect(traceOf({ ...headers, traceparent: TRACEPARENT })).toMatchObject({
      requestId: 'a',
      traceparent: TRACEPARENT,
    });
    expect(traceOf(headers, 'X-Amzn-Trace-Id').requestId).toBe('Root=1-2;Self=3');
    expect(traceOf(headers, false).requestId).toMatch(UUID);
    expect(new Tracer().of({ headers: new Headers(headers) } as never).requestId).toBe('a');
    // Names that every object has are no headers.
    for (const name of ['__proto__', 'constructor', 'toString', 'get'])
      expect([name, traceOf({}, name).requestId]).toEqual([name, expect.stringMatching(UUID)]);
  });

  it('has one made id, at whatever time it is asked for', () => {
    const tracer = new Tracer();
    const request = { headers: {} };
    const { requestId } = tracer.of(request);
    expect([tracer.of(request).requestId, requestId]).toEqual([
      requestId,
      expect.stringMatching(UUID),
    ]);
    expect(tracer.of({ headers: {} }).requestId).not.toBe(requestId);
  });

  it.each(['request', 'connection'])(
    'is one for both of a handshake, the %s asked first',
    (first) => {
      const guard = portcullis({ limits: {} });
      opened.push(guard);
      const tracer = new Tracer();
      for (const named of [{}, { requestId: 'a' }, { traceparent: TRACEPARENT }]) {
        const result = guard.manager.addConnection('a', new FakeSocket(), '127.0.0.1');
        if (!result.success) throw new Error(result.reason);
        const { connection } = result;
        const request = {
          headers: { 'x-request-id': named.requestId, traceparent: named.traceparent },
        };
        connection.hasTrace(tracer.keptBy(connection, request));
        const ofBoth = [() => values(tracer.of(request)), () => values(connection)];
        const [one, other] = (first === 'request' ? ofBoth : ofBoth.toReversed()).map((read) =>
          read(),
        );
        expect([one, values(tracer.of(request))]).toEqual([other, one]);
        expect(values(connection)).toEqual({
          requestId: expect.any(String) as string,
          traceparent: undefined,
          ...named,
        });
        connection.ended();
      }
    },
  );

  it('takes ids of 1 to 128 characters of its set only', () => {
    for (const id of ['a', 'x'.repeat(128), '01ARZ3NDEKTSV4RRFFQ69G5FAV', 'a_b.c:d/e+f=g@h~i;j-k'])
      expect(traceOf({ 'x-request-id': id }).requestId).toBe(id);
    const bad = ['', ' ', 'a b', 'a, b', 'x'.repeat(129), 'x'.repeat(10_240), 'a\n', 'a\0', 'é'];
    bad.push('<b>', '"', "'", '\u2028', 'a\u001b[31m', '%41', '\\');
    for (const id of [...bad, ['a'], 5, {}, null])
      expect([id, traceOf({ 'x-request-id': id }).requestId]).toEqual([
        id,
        expect.stringMatching(UUID),
      ]);
  });

  it('takes a traceparent of the grammar only, as a naive reader does', () => {
    /** The rule of W3C Trace Context, section 3.2, without an expression. */
    const isValid = (text: string): boolean => {
      const parts = text.split('-');
      const isHex = (part: string, length: number): boolean =>
        part.length === length && [...part].every((digit) => '0123456789abcdef'.includes(digit));
      const [version = '', trace = '', parent = '', flags = ''] = parts;
      return (
        parts.length === 4 &&
        isHex(version, 2) &&
        version !== 'ff' &&
        isHex(trace, 32) &&
        [...trace].some((digit) => digit !== '0') &&
        isHex(parent, 16) &&
        [...parent].some((digit) => digit !== '0') &&
        isHex(flags, 2)
      );
    };
    const roll = dice();
    const zeros = ['00-' + '0'.repeat(32) + '-00f067aa0ba902b7-01'];
    zeros.push('00-4bf92f3577b34da6a3ce929d0e0e4736-' + '0'.repeat(16) + '-01');
    const given = [TRACEPARENT, ...zeros, TRACEPARENT.replace('00', 'ff'), `${TRACEPARENT}-extra`];
    given.push(
      TRACEPARENT.toUpperCase(),
      `${TRACEPARENT}\n`,
      ` ${TRACEPARENT}`,
      'x'.repeat(10_240),
    );
    for (let round = 0; round < 2000; round++) {
      const text = [...TRACEPARENT];
      for (let changes = roll(3); changes >= 0; changes--) {
        const letters = '0123456789abcdefABCDEFg- \n';
        const at = roll(text.length);
        text.splice(at, roll(2), ...(roll(2) === 0 ? [letters[roll(letters.length)]!] : []));
      }
      given.push(text.join(''));
    }
    let valid = 0;
    for (const traceparent of given) {
      if (isValid(traceparent)) valid++;
      expect([traceparent, traceOf({ traceparent }).traceparent]).toEqual([
        traceparent,
        isValid(traceparent) ? traceparent : undefined,
      ]);
    }
    expect(valid).toBeGreaterThan(50);
  });

  it('refuses an option that is no name of a header', () => {
    for (const [option, code] of [
      ['', 'ERR_OUT_OF_RANGE'],
      ['a b', 'ERR_OUT_OF_RANGE'],
      ['x'.repeat(129), 'ERR_OUT_OF_RANGE'],
      [true, 'ERR_INVALID_ARG_TYPE'],
      [null, 'ERR_INVALID_ARG_TYPE'],
    ] as const)
      expect(() => portcullis({ limits: {}, requestIdHeader: option as never })).toThrow(
        expect.objectContaining({ code, field: 'requestIdHeader' }),
      );
  });

  it('is not looked for while nobody asks', () => {
    let reads = 0;
    const request = {
      get headers() {
        reads++;
        return { 'x-request-id': 'a' };
      },
    };
    const timers = new TimerManager();
    const monitor = new ResourceMonitor({}, { timers, log: false, stalls: false });
    opened.push(timers);
    const limits = resourceLimits().requests;
    const limiter = new RequestLimiter(limits, timers, monitor, undefined, undefined, new Tracer());
    const admitted = limiter.admit(0, undefined, '', undefined, undefined, request);
    if (!(admitted instanceof InFlightRequest)) throw new Error('not admitted');
    admitted.end();
    expect([reads, admitted.trace?.requestId, reads > 0]).toEqual([0, 'a', true]);
  });
});

class Numbered extends RunningRequest {
  constructor(readonly number: number) {
    super();
  }
  get trace(): RequestTrace {
    return { requestId: `r${this.number}`, traceparent: undefined };
  }
}

describe('the requests in flight', () => {
  it('are the newest first, as in a naive list', () => {
    const roll = dice(11);
    const list = new RunningRequests();
    const naive: Numbered[] = [];
    const gone: Numbered[] = [];
    for (let step = 0; step < 3000; step++) {
      const action = roll(5);
      if (action < 2) {
        const added = new Numbered(step);
        list.add(added);
        naive.unshift(added);
      } else if (action < 4 && naive.length > 0) {
        const [left] = naive.splice(roll(naive.length), 1);
        list.remove(left!);
        gone.push(left!);
      } else if (gone.length > 0) list.remove(gone[roll(gone.length)]!);
      if (step % 10 === 0) expect([...list]).toEqual(naive);
    }
    for (const left of naive.splice(0)) list.remove(left);
    expect([...list]).toEqual([]);
  });

  it('of a stall are eight at most, each once, for the last 64 stalls', () => {
    const list = new RunningRequests();
    const running = Array.from({ length: 20 }, (_, at) => new Numbered(at));
    for (const request of running) list.add(request);
    const noted = new StalledRequests();
    noted.note(1, undefined, list);
    expect(noted.of(1).map(({ requestId }) => requestId)).toEqual(
      [19, 18, 17, 16, 15, 14, 13, 12].map((at) => `r${at}`),
    );
    noted.note(2, running[18]!.trace, list);
    expect(noted.of(2).map(({ requestId }) => requestId)).toEqual(
      [18, 19, 17, 16, 15, 14, 13, 12].map((at) => `r${at}`),
    );
    for (let stall = 3; stall <= 70; stall++) noted.note(stall, undefined, []);
    noted.note(71, undefined, list);
    expect([noted.of(1), noted.of(7), noted.of(71).length]).toEqual([[], [], 8]);
  });
});

interface Started {
  readonly port: number;
  readonly stalls: Stall[];
  readonly monitor: ResourceMonitor;
  /** Ids and traces that the handlers have seen. */
  readonly seen: RequestTrace[];
  readonly webSocketServer: WebSocketServer;
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/**
 * Blocks, asleep, until the watcher has written a line to its log: on a busy machine it may come late. A look at
 * the monitor would note the requests itself.
 */
function block(log: string): void {
  const lines = (): number => readFileSync(log, 'utf8').split('has been blocked').length;
  const before = lines();
  for (const end = performance.now() + 10_000; performance.now() < end;) {
    Atomics.wait(sleeper, 0, 0, 20);
    if (lines() > before) return;
  }
}

/** Starts a server of `ws`: `/block` blocks, `/wait` waits for `/go`, and messages block. */
async function start(
  options: Partial<WsGuardOptions> & { byMetrics?: true } = {},
): Promise<Started> {
  const timers = new TimerManager();
  const stalls: Stall[] = [];
  const seen: RequestTrace[] = [];
  const monitor = new ResourceMonitor(
    {},
    {
      timers,
      log: false,
      stalls: { thresholdMs: 100, log: { file: LOG } },
      onStall: (stall) => void stalls.push(stall),
    },
  );
  const { byMetrics, ...given } = options;
  const metrics = new ProductionMetrics({ timers, monitor });
  const guard = portcullis({
    limits: {},
    timers,
    ...(byMetrics === true ? { metrics } : { monitor }),
    ...given,
  });
  const waiting: ServerResponse[] = [];
  const handler = (request: IncomingMessage, response: ServerResponse): void => {
    if (request.url === '/wait') return void waiting.push(response);
    if (request.url === '/block') block(LOG);
    if (request.url === '/seen') seen.push(guard.traceOf(request));
    if (request.url === '/go') for (const one of waiting.splice(0)) one.end();
    response.end();
  };
  const server = createServer(guard.request(handler));
  const webSocketServer = new WebSocketServer({ noServer: true });
  guard.attach(server, webSocketServer);
  webSocketServer.on('connection', (ws, request) => {
    seen.push(guard.traceOf(request));
    ws.on('message', (data) => {
      if (String(data) === 'block') block(LOG);
      ws.send(connectionOf(ws)?.requestId ?? '');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  opened.push(timers, guard, { close: () => server.closeAllConnections() }, server);
  const { port } = server.address() as AddressInfo;
  return { port, stalls, monitor, seen, webSocketServer };
}

const ask = async (port: number, path: string, headers: Record<string, string> = {}) =>
  (await fetch(`http://127.0.0.1:${port}${path}`, { headers })).text();

/** Returns the requests of the stall whose `/block`, or message, has made it. */
async function requestsOf({ stalls }: Started, label: string | null): Promise<Stall['requests']> {
  const own = (): Stall | undefined => stalls.find((stall) => stall.requests.length > 0);
  await until(
    () => own() !== undefined,
    () => JSON.stringify(stalls),
  );
  const { requests, label: told } = own()!;
  expect(told).toBe(label);
  stalls.length = 0;
  return requests;
}

describe('a stall', () => {
  it('has the id and the trace of the request that blocked, and of those in flight', async () => {
    const server = await start();
    const { port, monitor } = server;
    const waits = ask(port, '/wait', { 'x-request-id': 'waits' });
    await until(() => monitor.getMetrics().activeRequests === 1);
    await ask(port, '/block', { 'x-request-id': 'order-17', traceparent: TRACEPARENT });
    const requests = await requestsOf(server, null);
    expect(requests).toEqual([
      { requestId: 'order-17', traceparent: TRACEPARENT },
      { requestId: 'waits', traceparent: null },
    ]);
    expect(monitor.stalls().map((stall) => stall.requests)).toContainEqual(requests);
    await ask(port, '/go');
    await waits;
  });

  it('has none of the text of hostile headers', async () => {
    const server = await start();
    const { port } = server;
    const hostile = [
      `x-request-id: ${'x'.repeat(10_240)}\r\ntraceparent: ${'0'.repeat(2000)}\r\n`,
      `x-request-id: a\tb<script>\r\ntraceparent: ${TRACEPARENT}-more\r\n`,
      `x-request-id: one\r\nx-request-id: two\r\ntraceparent: ${TRACEPARENT}\r\ntraceparent: ${TRACEPARENT}\r\n`,
    ];
    for (const headers of hostile) {
      const socket = connect(port, '127.0.0.1');
      socket.write(`GET /block HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${headers}\r\n`);
      socket.resume();
      await once(socket, 'close');
      expect(await requestsOf(server, null)).toEqual([
        { requestId: expect.stringMatching(UUID) as string, traceparent: null },
      ]);
    }
  });

  it('has the handshake of the socket whose message blocked', async () => {
    const server = await start();
    const { port, seen } = server;
    for (const headers of [{ 'x-request-id': 'socket-1', traceparent: TRACEPARENT }, {}]) {
      const client = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
      await once(client, 'open');
      client.send('block');
      const [id] = (await once(client, 'message')) as [Buffer];
      const [trace] = seen.splice(0);
      const { requestId, traceparent = null } = trace!;
      expect(String(id)).toBe(requestId);
      expect(await requestsOf(server, 'WebSocket message')).toEqual([{ requestId, traceparent }]);
      client.terminate();
    }
  });

  it('has the handshake that blocked before it was answered', async () => {
    const server = await start({ identify: () => void block(LOG) });
    const client = new WebSocket(`ws://127.0.0.1:${server.port}`, {
      headers: { 'x-request-id': 'shake' },
    });
    await once(client, 'open');
    expect(await requestsOf(server, 'WebSocket handshake')).toEqual([
      { requestId: 'shake', traceparent: null },
    ]);
    client.terminate();
  });

  it('has the requests that the metrics alone tell the monitor of', async () => {
    const server = await start({ byMetrics: true });
    await ask(server.port, '/block', { traceparent: TRACEPARENT, 'x-request-id': 'metered' });
    expect(await requestsOf(server, 'GET')).toEqual([
      { requestId: 'metered', traceparent: TRACEPARENT },
    ]);
  });
});

describe('hooks', () => {
  const headers = { 'x-request-id': 'hooked', traceparent: TRACEPARENT };
  const both = { requestId: 'hooked', traceparent: TRACEPARENT };
  const refused = async (port: number): Promise<void> => {
    const client = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
    const [error] = (await once(client, 'error')) as [Error];
    expect(error.message).toMatch(/Unexpected server response/);
  };

  it('get the id and the trace of a refused handshake and of a refused request', async () => {
    const told: [string, object][] = [];
    const { port } = await start({
      limits: { maxTotalConnections: 0 },
      requests: {
        rate: {
          perIp: { limit: 1, windowMs: 60_000 },
          onRateRefused: (refusal) => told.push(['onRateRefused', values(refusal)]),
        },
      },
      onRefuse: (refusal) => told.push([`onRefuse ${refusal.code}`, values(refusal)]),
      onRefused: (_request, refusal) => {
        told.push([`onRefused ${refusal.status}`, values(refusal)]);
        return undefined;
      },
    });
    await refused(port);
    await ask(port, '/');
    await ask(port, '/', headers);
    expect(told).toEqual([
      ['onRefuse total_limit', both],
      ['onRefused 503', both],
      ['onRateRefused', both],
      ['onRefused 429', both],
    ]);
  });

  it('get those of a handshake whose identity fails, and of an observed one', async () => {
    const told: [string, object][] = [];
    const { port } = await start({
      limits: { maxConnectionsPerIp: 0, mode: 'observe' },
      onObserve: (refusal) => told.push([refusal.code, values(refusal)]),
      identify: () => {
        throw new Error('of identify');
      },
      onIdentifyError: (_error, _ip, trace) => told.push(['onIdentifyError', values(trace!)]),
    });
    await refused(port);
    expect(told).toEqual([
      ['ip_limit', both],
      ['onIdentifyError', both],
    ]);
  });

  it('get a connection that has them', async () => {
    const told: object[] = [];
    const { port } = await start({
      limits: { messageRate: { limit: 1, windowMs: 60_000, burst: 1, action: 'drop' } },
      onRateExceeded: (connection) => told.push(values(connection)),
    });
    const client = new WebSocket(`ws://127.0.0.1:${port}`, { headers });
    await once(client, 'open');
    client.send('1');
    client.send('2');
    await until(() => told.length > 0);
    expect(told).toEqual([both]);
    client.terminate();
  });
});
