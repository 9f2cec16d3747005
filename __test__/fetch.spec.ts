import { AsyncLocalStorage } from 'node:async_hooks';
import { once } from 'node:events';
import { connect } from 'node:http2';
import { describe, expect, it } from 'vitest';
import {
  type PortcullisError,
  type RequestRates,
  TimerManager,
  resourceLimits,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { until } from './fixtures/until.js';

// Internal, so it has no declarations.
interface Gate {
  readonly active: number;
  close(): void;
  admit(
    headerBytes: number,
    bodyBytes: number | undefined,
    address: string | undefined,
  ): { awaitedBy(waiter: { refused(): void }): void };
  snapshot(): { readonly refused: Readonly<Record<string, number>> };
}
const { RequestLimiter } = (await import('../dist/http/request-limiter.js' as string)) as {
  RequestLimiter: new (limits: unknown, timers: TimerManager, ...rest: unknown[]) => Gate;
};
const { RequestRateLimiter } = (await import('../dist/http/request-rates.js' as string)) as {
  RequestRateLimiter: new (rates: RequestRates, clock: ManualClock) => object;
};
const fetchLimits = (await import('../dist/http/fetch.js' as string)) as {
  DIRECT: object;
  asksForWebSocket(request: Request): boolean;
  lastAnswer(result: unknown): unknown;
  signalOf(request: Request): AbortSignal;
  unwatch(request: Request): void;
  waitingOn(request: Request): { onGone(listener: () => void): () => void };
  withinLimits(gate: Gate, request: Request, handle: () => unknown, host: object): unknown;
};
const { asksForWebSocket, DIRECT, lastAnswer, signalOf, unwatch, waitingOn } = fetchLimits;

/** Serves a request within the limits of a host that answers without hooks. */
function withinLimits(
  gate: Gate,
  request: Request,
  clientOf: () => string,
  handle: () => unknown,
  host: object = {},
): unknown {
  const isHandshake = asksForWebSocket(request);
  return fetchLimits.withinLimits(gate, request, handle, {
    ...DIRECT,
    isHandshake,
    clientOf,
    ...host,
  });
}

function setUp(rates?: RequestRates): { clock: ManualClock; gate: Gate } {
  const clock = new ManualClock();
  return {
    clock,
    gate: new RequestLimiter(
      resourceLimits({ requests: { timeoutMs: 1000, maxPayloadSize: 1000 } }).requests,
      new TimerManager({ clock }),
      undefined,
      undefined,
      rates && new RequestRateLimiter(rates, clock),
    ),
  };
}

const address = (): string => '192.0.2.1';
const forever = (): Promise<never> => new Promise(() => undefined);

describe('the signal of a request', () => {
  it('aborts at its timeout, as `request.signal` and by `signalOf`', async () => {
    const { clock, gate } = setUp();
    const request = new Request('http://localhost/');
    const answer = withinLimits(gate, request, address, forever) as Promise<Response>;
    const signal = signalOf(request);
    expect([request.signal === signal, signalOf(request) === signal, signal.aborted]).toEqual([
      true,
      true,
      false,
    ]);
    clock.advance(1000);
    expect(signal.aborted).toBe(true);
    expect((signal.reason as Error).message).toBe('Request took too long');
    expect((await answer).status).toBe(503);
    expect([gate.active, gate.snapshot().refused]).toEqual([0, { handler_timeout: 1 }]);
  });

  it('counts its timeout from the admission; an answer at once needs no timer', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const { requests } = resourceLimits({ requests: { timeoutMs: 1000 } });
    const gate = new RequestLimiter(requests, timers);
    let named = -1;
    withinLimits(gate, new Request('http://localhost/'), address, () => {
      named = timers.snapshot().active;
      return new Response();
    });
    expect([named, timers.snapshot().active, gate.active]).toEqual([0, 0, 0]);
    // Handlers that work for most of their time before they wait.
    for (const workMs of [900, 990, 998, 1500]) {
      const slow = new Request('http://localhost/');
      void withinLimits(gate, slow, address, () => {
        clock.advance(workMs);
        return forever();
      });
      clock.advance(Math.max(0, 999 - workMs));
      expect([workMs, signalOf(slow).aborted]).toEqual([workMs, false]);
      clock.advance(1);
      expect([workMs, signalOf(slow).aborted]).toEqual([workMs, true]);
    }
  });

  it('shares one timer with all that begin to wait within fifty milliseconds; each keeps its own end', async () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const { requests } = resourceLimits({ requests: { timeoutMs: 1000 } });
    const gate = new RequestLimiter(requests, timers);
    const begin = (handle: () => Promise<Response>): Request => {
      const request = new Request('http://localhost/');
      void withinLimits(gate, request, address, handle);
      return request;
    };
    const first = begin(forever);
    for (let count = 0; count < 100; count++) begin(() => Promise.resolve(new Response()));
    clock.advance(30);
    const second = begin(forever);
    expect([timers.snapshot().active, gate.active]).toEqual([1, 102]);
    await Promise.resolve().then(() => undefined);
    clock.advance(30);
    expect([timers.snapshot().active, gate.active]).toEqual([2, 2]);
    const ended = (): boolean[] => [first, second].map((request) => signalOf(request).aborted);
    clock.advance(939);
    expect(ended()).toEqual([false, false]);
    clock.advance(1);
    expect(ended()).toEqual([true, false]);
    clock.advance(29);
    expect(ended()).toEqual([true, false]);
    clock.advance(1);
    expect([ended(), timers.snapshot().active]).toEqual([[true, true], 0]);
    // One that was admitted before the shared timer was set, and waits after it: a handler called the app itself.
    const outer = begin(() => {
      clock.advance(990);
      begin(forever);
      clock.advance(5);
      return forever();
    });
    clock.advance(4);
    expect(signalOf(outer).aborted).toBe(false);
    clock.advance(1);
    expect(signalOf(outer).aborted).toBe(true);
    clock.advance(1000);
    // A guard that is closed leaves no timer.
    begin(forever);
    gate.close();
    expect(timers.snapshot().active).toBe(0);
    // Without timers, a request is served without a timeout.
    timers.close();
    const late = begin(forever);
    clock.advance(5000);
    expect([signalOf(late).aborted, gate.active]).toEqual([false, 2]);
  });

  it('sets no timer without a timeout, where the host itself tells that a client is gone', () => {
    const timers = new TimerManager({ clock: new ManualClock() });
    const { requests } = resourceLimits({ requests: { timeoutMs: Infinity } });
    const gate = new RequestLimiter(requests, timers);
    const request = gate.admit(0, undefined, address());
    request.awaitedBy({ refused: () => expect.unreachable() });
    expect(timers.snapshot().active).toBe(0);
  });

  it('has given its seat back before its answer is delayed', async () => {
    const { gate } = setUp();
    const answers: (() => void)[] = [];
    const answered = (_request: Request, answer: unknown) =>
      new Promise((resolve) => void answers.push(() => resolve(answer)));
    const passing = { isHandshake: true, answered };
    const handlers = [() => new Response('at once'), () => Promise.resolve(new Response('later'))];
    const given = handlers.map((handle) =>
      withinLimits(gate, new Request('http://localhost/ws'), address, handle, passing),
    ) as Promise<Response>[];
    await Promise.resolve().then(() => undefined);
    expect([gate.active, answers.length]).toEqual([0, 2]);
    for (const answer of answers) answer();
    expect(await Promise.all(given.map(async (answer) => (await answer).text()))).toEqual([
      'at once',
      'later',
    ]);
  });

  it('aborts when the client leaves', () => {
    const client = new AbortController();
    const request = new Request('http://localhost/', { signal: client.signal });
    void withinLimits(setUp().gate, request, address, forever);
    const signal = signalOf(request);
    client.abort();
    expect([signal.aborted, request.signal.aborted]).toEqual([true, true]);
  });

  it("is the host's own for an upgrade: a WebSocket keeps nothing of its request", async () => {
    const { clock, gate } = setUp();
    const upgrade = (): Request =>
      new Request('http://localhost/ws', { headers: { upgrade: 'websocket' } });
    const late = upgrade();
    const answer = withinLimits(gate, late, address, forever) as Promise<Response>;
    expect(Object.getOwnPropertyNames(late)).not.toContain('signal');
    expect(signalOf(late).aborted).toBe(false);
    clock.advance(1000);
    expect([signalOf(late).aborted, late.signal.aborted]).toEqual([true, false]);
    expect((await answer).status).toBe(503);
    const entered = upgrade();
    withinLimits(gate, entered, address, () => unwatch(entered));
    expect(signalOf(entered)).toBe(entered.signal);
    expect(gate.active).toBe(0);
  });
});

/** A handler that waits for `answer()`. */
function slow(): { handle: () => Promise<unknown>; answer: (value: unknown) => void } {
  let answer: (value: unknown) => void = () => undefined;
  const answered = new Promise((resolve) => (answer = resolve));
  return { handle: () => answered, answer };
}

describe('the timeout of a request', () => {
  it('is none after the timers are closed: the request is served, and has no seat after it', async () => {
    const timers = new TimerManager({ strict: true });
    const gate = new RequestLimiter(resourceLimits({}).requests, timers);
    timers.close();
    const request = new Request('http://localhost/');
    const answer = withinLimits(gate, request, address, () => Promise.resolve(new Response('ok')));
    expect([await ((await answer) as Response).text(), gate.active]).toEqual(['ok', 0]);
  });

  it('ends the stream of a response that comes too late', async () => {
    const { clock, gate } = setUp();
    const { handle, answer } = slow();
    const given = withinLimits(gate, new Request('http://localhost/'), address, handle);
    clock.advance(1000);
    expect(((await given) as Response).status).toBe(503);
    let isCancelled = false;
    answer(new Response(new ReadableStream({ cancel: () => void (isCancelled = true) })));
    await until(() => isCancelled);
    expect(gate.snapshot().refused).toEqual({ handler_timeout: 1 });
  });
});

describe('requests that share a timer', () => {
  it('have their timeouts in their own contexts of AsyncLocalStorage', async () => {
    const { clock, gate } = setUp();
    const store = new AsyncLocalStorage<string>();
    const seen: string[] = [];
    const answers = ['a', 'b', 'c'].map((name) =>
      store.run(name, () => {
        const request = new Request('http://localhost/');
        const answer = withinLimits(gate, request, address, forever) as Promise<Response>;
        signalOf(request).addEventListener('abort', () =>
          seen.push(`${name} in ${store.getStore()}`),
        );
        return answer;
      }),
    );
    clock.advance(1000);
    await Promise.all(answers);
    expect(seen).toEqual(['a in a', 'b in b', 'c in c']);
  });

  it('end in time though the host throws for one of them', () => {
    const clock = new ManualClock();
    const { requests } = resourceLimits({ requests: { timeoutMs: 40 } });
    const gate = new RequestLimiter(requests, new TimerManager({ clock }));
    const ended: number[] = [];
    for (const at of [0, 1, 2])
      gate.admit(0, undefined, address()).awaitedBy({
        refused() {
          ended.push(at);
          if (at === 0) throw new Error('of the host');
        },
      });
    expect(() => clock.advance(40)).toThrow('of the host');
    clock.advance(40);
    expect(ended.toSorted()).toEqual([0, 1, 2]);
  });
});

describe('a handshake that was a request', () => {
  const rates: RequestRates = { perIp: { limit: 2, windowMs: 60_000 } };
  const passing = { isHandshake: true };
  const run = (gate: Gate, handle: () => unknown) =>
    withinLimits(
      gate,
      new Request('http://localhost/ws'),
      address,
      handle,
      passing,
    ) as Promise<Response>;

  it('spends the rates of requests at its timeout', async () => {
    const { clock, gate } = setUp(rates);
    const answers = [1, 2, 3].map(() => run(gate, forever));
    clock.advance(1000);
    const statuses = await Promise.all(answers.map(async (answer) => (await answer).status));
    expect(statuses).toEqual([503, 503, 429]);
  });

  it('spends them when its client leaves, though the host knows its address no longer', async () => {
    const { clock, gate } = setUp(rates);
    const answers = [1, 2, 3].map(() => {
      let isGone = false;
      const answer = withinLimits(
        gate,
        new Request('http://localhost/ws'),
        () => (isGone ? '' : address()),
        forever,
        { isHandshake: true, isGone: () => isGone },
      ) as Promise<Response>;
      isGone = true;
      return answer;
    });
    clock.advance(1000);
    expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([503, 503, 503]);
    expect(gate.snapshot().refused).toEqual({ ip_request_rate: 1 });
  });

  it('spends those of the outer one of two guards', async () => {
    const [outer, inner] = [setUp(rates).gate, setUp().gate];
    const statuses = [];
    for (let at = 0; at < 3; at++) {
      const request = new Request('http://localhost/ws');
      const within = (gate: Gate, handle: () => unknown) =>
        withinLimits(gate, request, address, handle, passing) as Promise<Response>;
      const answer = within(outer, () => within(inner, async () => new Response('no socket')));
      statuses.push((await answer).status);
    }
    expect(statuses).toEqual([200, 200, 429]);
  });

  it('spends them when its handler throws, which is told to nobody over the rate', async () => {
    const { gate } = setUp(rates);
    const fail = (): never => {
      throw new Error('of the application');
    };
    for (const handle of [fail, () => Promise.reject(new Error('of the application'))])
      await expect((async () => run(gate, handle))()).rejects.toThrow('of the application');
    expect((await run(gate, fail)).status).toBe(429);
    expect((await run(gate, async () => fail())).status).toBe(429);
  });
});

describe('a client that leaves before the answer', () => {
  it.each(['skipSuccessful', 'skipFailed'])('keeps the cost spent: %s', async (skip) => {
    const { clock, gate } = setUp({ perIp: { limit: 1, windowMs: 60_000 }, [skip]: true });
    const client = new AbortController();
    const request = new Request('http://localhost/', { signal: client.signal });
    const { handle, answer } = slow();
    const given = withinLimits(gate, request, address, handle) as Promise<Response>;
    client.abort();
    clock.advance(1000);
    await given;
    expect(gate.active).toBe(0);
    let isCancelled = false;
    answer(
      new Response(new ReadableStream({ cancel: () => void (isCancelled = true) }), {
        status: skip === 'skipSuccessful' ? 200 : 500,
      }),
    );
    await until(() => isCancelled);
    const next = withinLimits(
      gate,
      new Request('http://localhost/'),
      address,
      () => new Response(),
    );
    expect((next as Response).status).toBe(429);
  });
});

describe('a handshake that waits', () => {
  it('hears once that its client has left, whenever that was, and nothing once it is answered', async () => {
    const heard: string[] = [];
    const begin = (name: string) => {
      const client = new AbortController();
      const request = new Request('http://localhost/ws', { signal: client.signal });
      const forget = waitingOn(request).onGone(() => heard.push(name));
      return { leave: () => client.abort(), forget };
    };
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const [early, late, quick, answered] = ['early', 'late', 'quick', 'answered'].map(begin);
    early!.leave();
    quick!.forget();
    quick!.leave();
    await turn();
    expect(heard).toEqual(['early']);
    late!.leave();
    answered!.forget();
    answered!.leave();
    await turn();
    expect(heard).toEqual(['early', 'late']);
  });
});

describe('a response that cannot be copied', () => {
  const rates = { perIp: { limit: 9, windowMs: 1000 } };
  /** Responses of the host as they are: one that `fetch` has read, and the one of an error. */
  const read = async (): Promise<Response> => {
    const response = await fetch('data:text/plain,hi');
    await response.text();
    return response;
  };

  it('is the answer, as without a rate', async () => {
    for (const make of [read, () => Promise.resolve(Response.error())]) {
      const response = await make();
      const request = new Request('http://localhost/');
      const within = (handle: () => unknown): unknown =>
        withinLimits(setUp(rates).gate, request, address, handle);
      expect(await within(() => Promise.resolve(response))).toBe(response);
      expect(within(() => response)).toBe(response);
      expect(lastAnswer(response)).toBe(response);
    }
  });
});

describe('a body without a length', () => {
  // As one of HTTP/2: it has neither `content-length` nor `transfer-encoding`.
  const post = (body: BodyInit): Request =>
    new Request('http://localhost/', { method: 'POST', body, duplex: 'half' } as RequestInit);
  const chunks = (count: number): ReadableStream =>
    new ReadableStream({
      start(controller) {
        for (let i = 0; i < count; i++)
          controller.enqueue(new TextEncoder().encode('x'.repeat(100)));
        controller.close();
      },
    });
  const answerTo = async (
    request: Request,
    handle: (request: Request) => Promise<unknown>,
  ): Promise<Response> => {
    const { gate } = setUp();
    const given = withinLimits(gate, request, address, async () => {
      const value = await handle(request);
      return new Response(String(value));
    });
    return (await given) as Response;
  };
  const WAYS: Record<string, (request: Request) => Promise<unknown>> = {
    'text()': async (request) => (await request.text()).length,
    'the stream': async (request) => {
      let bytes = 0;
      for await (const chunk of request.body ?? []) bytes += (chunk as Uint8Array).length;
      return bytes;
    },
    'a clone': async (request) => {
      const copy = request.clone();
      expect([copy.method, copy.url]).toEqual([request.method, request.url]);
      const [own, other] = await Promise.all([request.text(), copy.text()]);
      expect(own).toBe(other);
      return other.length;
    },
  };

  it.each(Object.entries(WAYS))('is counted as it is read by %s', async (_name, read) => {
    const fits = await answerTo(post(chunks(10)), read);
    expect([fits.status, await fits.text()]).toEqual([200, '1000']);
    const over = await answerTo(post(chunks(11)), read);
    expect([over.status, await over.json()]).toMatchObject([413, { code: 'payload_too_large' }]);
  });

  it('is none where the request has no body', async () => {
    const request = new Request('http://localhost/', { method: 'POST' });
    const answer = await answerTo(request, (given) => Promise.resolve(given.body));
    expect(await answer.text()).toBe('null');
  });
});

describe('a body that does not arrive in time', () => {
  const post = (headers: Record<string, string>): Request =>
    new Request('http://localhost/', {
      method: 'POST',
      headers,
      body: new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode('x')),
      }),
      duplex: 'half',
    } as RequestInit);
  const codeOf = async (given: unknown): Promise<unknown[]> => {
    const answer = (await given) as Response;
    return [answer.status, ((await answer.json()) as PortcullisError).code];
  };

  it.each([
    ['of known length', { 'content-length': '10' }],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('gets 408 if the handler reads its stream: %s', async (_name, headers) => {
    const { clock, gate } = setUp();
    const request = post(headers);
    const given = withinLimits(gate, request, address, async () => {
      for await (const _chunk of request.body ?? []);
      return new Response();
    });
    await new Promise((resolve) => setTimeout(resolve, 10));
    clock.advance(1000);
    expect(await codeOf(given)).toEqual([408, 'request_timeout']);
  });

  it.each([
    ['of known length', { 'content-length': '10' }],
    ['in chunks', { 'transfer-encoding': 'chunked' }],
  ])('gets 503 if the handler does not read on: %s', async (_name, headers) => {
    const { clock, gate } = setUp();
    const request = post(headers);
    const { handle } = slow();
    let isRead = false;
    const given = withinLimits(gate, request, address, async () => {
      const reader = request.body?.getReader();
      expect((await reader?.read())?.value?.length).toBe(1);
      isRead = true;
      return handle();
    });
    await until(() => isRead);
    clock.advance(1000);
    expect(await codeOf(given)).toEqual([503, 'handler_timeout']);
  });

  it('gets 503 if it has arrived and is no JSON', async () => {
    const { clock, gate } = setUp();
    const request = new Request('http://localhost/', {
      method: 'POST',
      headers: { 'content-length': '4' },
      body: 'text',
    });
    let isRead = false;
    const given = withinLimits(gate, request, address, async () => {
      await expect(request.json()).rejects.toThrow();
      isRead = true;
      return forever();
    });
    await until(() => isRead);
    clock.advance(1000);
    expect(await codeOf(given)).toEqual([503, 'handler_timeout']);
  });

  it('keeps the body of known length that the host has: asked for, and read another way', async () => {
    const { gate } = setUp();
    const request = new Request('http://localhost/', {
      method: 'POST',
      headers: { 'content-length': '4' },
      body: 'text',
    });
    const given = withinLimits(gate, request, address, async () => {
      expect([request.body === request.body, request.bodyUsed]).toEqual([true, false]);
      const copy = request.clone();
      expect([await copy.text(), await new Response(request.body).text()]).toEqual([
        'text',
        'text',
      ]);
      expect(request.bodyUsed).toBe(true);
      return new Response('ok');
    });
    expect(await ((await given) as Response).text()).toBe('ok');
  });
});

// HTTP/2 of `Bun.serve`, an option of Bun that it calls experimental; `requests-node.spec.ts` has Node's.
describe.skipIf(!('bun' in process.versions))('a body of HTTP/2 on Bun', () => {
  it('is counted without `content-length`', async () => {
    const { portcullis } = await import('../dist/bun.js');
    const guard = portcullis({ limits: {}, requests: { maxPayloadSize: 1000 } });
    const server = Bun.serve({
      port: 0,
      hostname: '127.0.0.1',
      http2: true,
      fetch: guard.fetch(async (request: Request) => Response.json((await request.text()).length)),
    });
    const session = connect(`http://127.0.0.1:${server.port}`);
    try {
      for (const [bytes, expected] of [
        [1000, 200],
        [1001, 413],
      ] as const) {
        const stream = session.request({ ':method': 'POST', ':path': '/' });
        stream.end('x'.repeat(bytes));
        const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
        expect([bytes, headers[':status']]).toEqual([bytes, expected]);
        stream.close();
      }
      expect(guard.snapshot().requests?.refused).toEqual({ payload_too_large: 1 });
    } finally {
      session.destroy();
      void server.stop(true);
      guard.close();
    }
  });
});
