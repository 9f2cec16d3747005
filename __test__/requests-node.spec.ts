import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2';
import { createServer as createHttp2 } from 'node:http2';
import { type AddressInfo, connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { type GuardOptions, portcullis, signalOf } from '../dist/ws.js';
import { until } from './fixtures/until.js';

// Requests of Node's servers, by the clock of the test. Bun has `node:http`, too.
const BUN = 'bun' in process.versions;
const HOSTS: Record<string, () => Server> = {
  http: () => createServer(),
  ...(BUN ? {} : { 'HTTP/2': () => createHttp2() as unknown as Server }),
};
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => unknown;

/** Starts a guarded server whose timeouts pass with `clock`. */
async function start(
  make: () => Server,
  requests: NonNullable<GuardOptions['requests']>,
  handler: Handler,
  timers = { strict: false },
) {
  const clock = new ManualClock();
  const manager = new TimerManager({ clock, ...timers });
  const guard = portcullis({ limits: {}, timers: manager, requests });
  const server = make().on('request', guard.request(handler)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  ends.push(() => {
    server.close();
    guard.close();
  });
  return {
    clock,
    timers: manager,
    port,
    url: `http://127.0.0.1:${port}`,
    requests: () => guard.snapshot().requests,
  };
}

/** The answer to a request, as far as it has come. */
interface Seen {
  status: number | undefined;
  body: string;
  isOver: boolean;
  isBroken: boolean;
}

/** Sends a request by the protocol of a host; `leave` ends its connection or its stream. */
function ask(host: string, port: number): { seen: Seen; leave: () => void } {
  const seen: Seen = { status: undefined, body: '', isOver: false, isBroken: false };
  if (host === 'HTTP/2') {
    const stream = streamTo(port, { ':path': '/' });
    stream.end();
    follow(stream, seen);
    return { seen, leave: () => stream.close(8) };
  }
  const leaving = new AbortController();
  const read = async (): Promise<void> => {
    const answer = await fetch(`http://127.0.0.1:${port}/`, { signal: leaving.signal });
    seen.status = answer.status;
    const decoder = new TextDecoder();
    for await (const chunk of answer.body ?? []) seen.body += decoder.decode(chunk as Uint8Array);
  };
  read()
    .catch(() => (seen.isBroken = true))
    .finally(() => (seen.isOver = true));
  return { seen, leave: () => leaving.abort() };
}

function streamTo(port: number, headers: Record<string, string>): ClientHttp2Stream {
  const session = connectHttp2(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  ends.push(() => session.destroy());
  return session.request(headers);
}

function follow(stream: ClientHttp2Stream, seen: Seen): void {
  stream.on('response', (headers) => (seen.status = headers[':status']));
  stream.setEncoding('utf8').on('data', (text) => (seen.body += text));
  stream.on('error', () => (seen.isBroken = true));
  for (const event of ['end', 'close']) stream.on(event, () => (seen.isOver = true));
}

describe.each(Object.entries(HOSTS))('a request of node:%s', (host, make) => {
  it('has no timeout once its response has begun', async () => {
    let response: ServerResponse | undefined;
    const server = await start(make, { timeoutMs: 1000 }, (_request, given) => {
      response = given;
      given.write('first');
    });
    const { seen } = ask(host, server.port);
    await until(() => seen.body === 'first');
    server.clock.advance(5000);
    response?.write(' second');
    await until(() => seen.body === 'first second');
    response?.end(' third');
    await until(() => seen.isOver);
    expect([seen.status, seen.body, seen.isBroken]).toEqual([200, 'first second third', false]);
    await until(() => server.requests()?.active === 0);
    expect(server.requests()?.refused).toEqual({});
  });

  // Without pipelines HTTP/2 has no such response. On Node the head of one counts as sent.
  it.skipIf(host !== 'http')(
    'has no timeout once it is complete, though it waits for another one',
    async () => {
      let first: ServerResponse | undefined;
      const server = await start(make, { timeoutMs: 1000 }, ({ url }, response) => {
        if (url === '/first') {
          first = response;
          response.write('a');
        } else response.end('second');
      });
      const socket = connect(server.port, '127.0.0.1');
      let text = '';
      socket.on('data', (data) => (text += String(data)));
      socket.write(
        ['/first', '/second'].map((path) => `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`).join(''),
      );
      await until(() => text.includes('\r\na\r\n') && first !== undefined);
      for (let step = 0; step < 4; step++) {
        server.clock.advance(500);
        await new Promise((resolve) => setImmediate(resolve));
      }
      first?.end('b');
      await until(() => text.endsWith('second'));
      expect(server.requests()?.refused).toEqual({});
      socket.destroy();
    },
  );

  it('has its timeout while only its status is set', async () => {
    let isCalled = false;
    const server = await start(make, { timeoutMs: 1000 }, (_request, response) => {
      response.statusCode = 201;
      isCalled = true;
    });
    const { seen } = ask(host, server.port);
    await until(() => isCalled);
    server.clock.advance(1000);
    await until(() => seen.isOver);
    expect(seen.status).toBe(503);
    expect(server.requests()?.refused).toEqual({ handler_timeout: 1 });
  });

  it('lets a handler that is late do with its response as it likes', async () => {
    let late: (() => void) | undefined;
    const called: string[] = [];
    const server = await start(make, { timeoutMs: 1000 }, (_request, response) => {
      late = () => {
        response.setHeader('a', '1');
        if (host === 'http') {
          response.setHeaders?.(new Map([['b', '2']]));
          response.writeEarlyHints({ link: '</a>; rel=preload' });
          response.writeProcessing();
        }
        response.addTrailers({ c: '3' });
        response.writeContinue();
        response.write('late', () => called.push('write'));
        response.write('late', 'utf8', () => called.push('write'));
        response.end('late', () => called.push('end'));
        response.end(() => called.push('end'));
      };
    });
    const { seen } = ask(host, server.port);
    await until(() => late !== undefined);
    server.clock.advance(1000);
    await until(() => seen.isOver);
    expect(seen.status).toBe(503);
    late?.();
    await until(() => called.length === 4);
    expect(called).toEqual(['write', 'write', 'end', 'end']);
  });

  it.each(['skipSuccessful', 'skipFailed'])(
    'keeps its cost if its client leaves before the answer: %s',
    async (skip) => {
      const responses: ServerResponse[] = [];
      const server = await start(
        make,
        { rate: { perIp: { limit: 2, windowMs: 60_000 }, [skip]: true } },
        (_request, response) => responses.push(response),
      );
      for (const asked of [1, 2]) {
        const { leave } = ask(host, server.port);
        await until(() => responses.length === asked);
        leave();
        await until(() => server.requests()?.active === 0);
      }
      const { seen } = ask(host, server.port);
      await until(() => seen.isOver);
      expect([seen.status, responses.length]).toEqual([429, 2]);
    },
  );

  it('gets its cost back by the status of its answer', async () => {
    const server = await start(
      make,
      { rate: { perIp: { limit: 1, windowMs: 60_000 }, skipSuccessful: true } },
      (_request, response) => response.end('ok'),
    );
    for (let i = 0; i < 3; i++) {
      const { seen } = ask(host, server.port);
      await until(() => seen.isOver);
      expect(seen.status).toBe(200);
      await until(() => server.requests()?.active === 0);
    }
  });

  it('counts by the status of its head, whatever status the handler sets later', async () => {
    const server = await start(
      make,
      { rate: { perIp: { limit: 1, windowMs: 60_000 }, skipFailed: true } },
      (_request, response) => {
        response.end('ok');
        response.statusCode = 500;
      },
    );
    for (const status of [200, 429]) {
      const { seen } = ask(host, server.port);
      await until(() => seen.isOver);
      expect(seen.status).toBe(status);
      await until(() => server.requests()?.active === 0);
    }
  });

  it('gets its cost back with its head, while its body is still on the way', async () => {
    const server = await start(
      make,
      { rate: { perIp: { limit: 1, windowMs: 60_000 }, skipSuccessful: true } },
      (_request, response) => response.write('first'),
    );
    for (let i = 0; i < 3; i++) {
      const { seen } = ask(host, server.port);
      await until(() => seen.body === 'first');
      expect([seen.status, seen.isOver]).toEqual([200, false]);
    }
    expect(server.requests()?.active).toBe(3);
  });

  it('is served without a timeout after its timers are closed', async () => {
    const server = await start(
      make,
      { timeoutMs: 1000 },
      (_request, response) => response.end('ok'),
      { strict: true },
    );
    server.timers.close();
    const { seen } = ask(host, server.port);
    await until(() => seen.isOver);
    expect([seen.status, seen.body]).toEqual([200, 'ok']);
    await until(() => server.requests()?.active === 0);
  });
});

describe.skipIf(BUN)('a request of node:http', () => {
  it('has its timeout while nothing but `writeHead()` has been called: nothing is on its way', async () => {
    let isCalled = false;
    const server = await start(HOSTS['http']!, { timeoutMs: 1000 }, (_request, response) => {
      response.writeHead(200);
      isCalled = true;
    });
    const { seen } = ask('http', server.port);
    await until(() => isCalled);
    server.clock.advance(1000);
    await until(() => seen.isOver);
    expect([seen.status, seen.isBroken]).toEqual([undefined, true]);
  });

  it('has no timeout once its headers are sent', async () => {
    let response: ServerResponse | undefined;
    const server = await start(HOSTS['http']!, { timeoutMs: 1000 }, (_request, given) => {
      given.writeHead(200).flushHeaders();
      response = given;
    });
    const { seen } = ask('http', server.port);
    await until(() => seen.status === 200);
    server.clock.advance(5000);
    response?.end('done');
    await until(() => seen.isOver);
    expect([seen.body, seen.isBroken]).toEqual(['done', false]);
  });

  it('aborts its signal if its client leaves a response that has outlived the timeout', async () => {
    let signal: AbortSignal | undefined;
    const server = await start(HOSTS['http']!, { timeoutMs: 1000 }, (request, response) => {
      response.write('first');
      signal = signalOf(request);
    });
    const client = connect(server.port, '127.0.0.1');
    client.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await once(client, 'data');
    server.clock.advance(5000);
    expect(signal?.aborted).toBe(false);
    client.destroy();
    await until(() => signal?.aborted === true);
    await until(() => server.requests()?.active === 0);
  });
});

describe.skipIf(BUN)('a HEAD of HTTP/2', () => {
  it('gives its seat back though its handler streams an answer that is never sent', async () => {
    const server = await start(HOSTS['HTTP/2']!, { maxConcurrent: 1 }, (_request, response) => {
      response.write('a stream without an end');
    });
    for (let at = 0; at < 3; at++) {
      const seen: Seen = { status: undefined, body: '', isOver: false, isBroken: false };
      const stream = streamTo(server.port, { ':method': 'HEAD', ':path': '/' });
      stream.end();
      follow(stream, seen);
      await until(() => seen.isOver);
      expect(seen.status).toBe(200);
      await until(() => server.requests()?.active === 0);
    }
  });
});

describe('a list of fields that `writeHead()` gets behind those of rates', () => {
  const rate = { perIp: { limit: 9, windowMs: 60_000 } };
  const listed = (list: unknown[]): Promise<Awaited<ReturnType<typeof start>>> =>
    start(HOSTS['http']!, { rate }, (_request, response) => {
      try {
        response.writeHead(201, 'Made', list as string[]).end();
      } catch (error) {
        response.end((error as { code: string }).code);
      }
    });

  it.each<[string, unknown[]]>([
    ['flat', ['Set-Cookie', 'a=1', 'X-One', 'x', 'set-cookie', 'b=2, c']],
    ['flat, with arrays as values', ['Set-Cookie', ['a=1', 'b=2, c'], 'X-One', 'x']],
    ['flat, with both', ['Set-Cookie', ['a=1'], 'X-One', 'x', 'set-cookie', 'b=2, c']],
    [
      'of pairs',
      [
        ['Set-Cookie', 'a=1'],
        ['X-One', 'x'],
        ['set-cookie', 'b=2, c'],
      ],
    ],
    [
      'of pairs with arrays as values',
      [
        ['Set-Cookie', ['a=1', 'b=2, c']],
        ['X-One', ['x']],
      ],
    ],
    ['empty', []],
  ])('keeps each of its fields: %s', async (kind, list) => {
    const server = await listed(list);
    const answer = await fetch(server.url);
    expect([answer.status, answer.statusText]).toEqual([201, 'Made']);
    expect([answer.headers.getSetCookie(), answer.headers.get('x-one')]).toEqual(
      kind === 'empty' ? [[], null] : [['a=1', 'b=2, c'], 'x'],
    );
    expect(answer.headers.get('ratelimit')).toBe('"ip";r=8;t=7');
  });

  it('throws as the host does where a value is missing', async () => {
    const server = await listed(['Set-Cookie', 'a=1', 'X-One']);
    expect(await (await fetch(server.url)).text()).toBe('ERR_INVALID_ARG_VALUE');
  });
});

describe('the fields of rates', () => {
  const headers = ['ratelimit', 'x-ratelimit'] as const;
  const rate = { perIp: { limit: 9, windowMs: 60_000 }, headers };
  const NAMES = ['ratelimit-policy', 'ratelimit', 'x-ratelimit-limit', 'x-ratelimit-remaining'];
  const LISTED = ['"own";q=5, "ip";q=9;w=60', '"own";r=1, "ip";r=8;t=7'];
  const mine = (left: number): Record<string, string> => ({
    'RateLimit-Policy': '"own";q=5',
    RateLimit: '"own";r=1',
    'X-RateLimit-Limit': '5',
    'X-RateLimit-Remaining': String(left),
  });
  const set = (response: ServerResponse, left: number): ServerResponse => {
    for (const [name, value] of Object.entries(mine(left))) response.setHeader(name, value);
    return response;
  };

  it.each<[string, (response: ServerResponse, left: number) => unknown]>([
    ['set', (response, left) => set(response, left).end()],
    [
      'set, before the first write',
      (response, left) => set(response, left).write('') && response.end(),
    ],
    ['given', (response, left) => response.writeHead(200, mine(left)).end()],
    [
      'given as a list',
      (response, left) => response.writeHead(200, 'OK', Object.entries(mine(left)).flat()).end(),
    ],
    [
      'given again, behind a head that the host has refused',
      (response, left) => {
        set(response, left);
        try {
          response.writeHead(1);
        } catch {
          response.writeHead(200).end();
        }
      },
    ],
  ])('stand beside those of the application: %s', async (_how, answer) => {
    const rest: [number, string[]][] = [
      [1, ['5', '1']],
      [9, ['9', '8']],
    ];
    for (const [left, least] of rest) {
      const server = await start(HOSTS['http']!, { rate }, (_request, response) =>
        answer(response, left),
      );
      const { status, headers: seen } = await fetch(server.url);
      expect([status, ...NAMES.map((name) => seen.get(name))]).toEqual([200, ...LISTED, ...least]);
    }
  });

  it('are left out where the application removes them', async () => {
    const server = await start(HOSTS['http']!, { rate }, (_request, response) => {
      response.removeHeader('ratelimit');
      response.end();
    });
    const { headers: seen } = await fetch(server.url);
    expect([seen.get('ratelimit'), seen.get('ratelimit-policy')]).toEqual([null, '"ip";q=9;w=60']);
  });
});

describe('a body that is cut', () => {
  const chunk = (length: number): string => `${length.toString(16)}\r\n${'x'.repeat(length)}\r\n`;
  const HEAD = 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n';

  it.each([
    ['in one packet', [`${HEAD}${chunk(500).repeat(3)}0\r\n\r\n`]],
    ['with its end behind it', [HEAD + chunk(500), `${chunk(500).repeat(2)}0\r\n\r\n`]],
    ['before its end', [HEAD + chunk(500), chunk(600)]],
  ])('fails for its reader, and never looks whole: %s', async (_, packets) => {
    const read: unknown[] = [];
    const server = await start(
      HOSTS['http']!,
      { maxPayloadSize: 1000 },
      async (request, response) => {
        try {
          for await (const _part of request) read.push('a part');
          read.push('whole');
          response.end();
        } catch (error) {
          read.push((error as { code?: unknown }).code);
        }
      },
    );
    const socket = connect(server.port, '127.0.0.1');
    ends.push(() => socket.destroy());
    let seen = '';
    socket.on('data', (data) => (seen += String(data))).on('error', () => undefined);
    for (const packet of packets) {
      const parts = read.length;
      socket.write(packet);
      await until(() => read.length > parts || seen !== '');
    }
    await until(() => read.some((one) => one !== 'a part'));
    expect(read.filter((one) => one !== 'a part')).toEqual(['ERR_OUT_OF_RANGE']);
    await until(() => seen !== '');
    expect(seen).toMatch(/^HTTP\/1\.1 413 /);
  });

  it('fails for a handler that has begun to answer, and the answer breaks off', async () => {
    let outcome: unknown;
    const server = await start(
      HOSTS['http']!,
      { maxPayloadSize: 1000 },
      async (request, response) => {
        response.write('begun');
        try {
          for await (const _part of request);
          outcome = 'whole';
        } catch {
          outcome = 'failed';
        }
      },
    );
    const socket = connect(server.port, '127.0.0.1');
    ends.push(() => socket.destroy());
    socket.on('error', () => undefined).resume();
    socket.write(`${HEAD}${chunk(500).repeat(3)}0\r\n\r\n`);
    await until(() => outcome !== undefined && socket.closed);
    expect(outcome).toBe('failed');
  });

  it('fails for its reader once it has not come in time', async () => {
    let problem: unknown;
    let begun = false;
    const server = await start(HOSTS['http']!, { timeoutMs: 1000 }, async (request) => {
      try {
        for await (const _part of request) begun = true;
      } catch (error) {
        problem = (error as { code?: unknown }).code;
      }
    });
    const socket = connect(server.port, '127.0.0.1');
    ends.push(() => socket.destroy());
    let seen = '';
    socket.on('data', (data) => (seen += String(data))).on('error', () => undefined);
    socket.write(HEAD + chunk(5));
    await until(() => begun);
    server.clock.advance(1000);
    await until(() => problem !== undefined && seen !== '');
    expect(problem).toBe('ERR_TIMEOUT');
    expect(seen).toMatch(/^HTTP\/1\.1 408 /);
  });
});

describe.skipIf(BUN)('a body of HTTP/2', () => {
  const LENGTH: Handler = async (request, response) => {
    let bytes = 0;
    try {
      for await (const chunk of request) bytes += (chunk as Buffer).length;
      whole.push(bytes);
    } catch (error) {
      return void whole.push((error as { code?: unknown }).code);
    }
    response.end(String(bytes));
  };
  /** Lengths of the bodies that looked whole, and codes of errors in the place of the others. */
  const whole: unknown[] = [];
  const post = (port: number, headers: Record<string, string> = {}) => {
    const seen: Seen = { status: undefined, body: '', isOver: false, isBroken: false };
    const stream = streamTo(port, { ':method': 'POST', ':path': '/', ...headers });
    follow(stream, seen);
    return { stream, seen };
  };

  it('is counted without `content-length`', async () => {
    const server = await start(HOSTS['HTTP/2']!, { maxPayloadSize: 1000 }, LENGTH);
    const fits = post(server.port);
    fits.stream.end('x'.repeat(1000));
    await until(() => fits.seen.isOver);
    expect([fits.seen.status, fits.seen.body]).toEqual([200, '1000']);
    const large = post(server.port);
    large.stream.end('x'.repeat(1200));
    await until(() => large.seen.isOver && whole.length > 1);
    expect([large.seen.status, whole]).toEqual([413, [1000, 'ERR_OUT_OF_RANGE']]);
    // The body never ends: only a server that counts can answer, and it stops the client.
    const { stream, seen } = post(server.port);
    stream.write('x'.repeat(600));
    stream.write('x'.repeat(600));
    await until(() => stream.closed);
    expect([seen.status, JSON.parse(seen.body)]).toMatchObject([
      413,
      { code: 'payload_too_large' },
    ]);
    expect(stream.rstCode).toBe(0);
    expect(server.requests()?.refused).toEqual({ payload_too_large: 2 });
    await until(() => whole.length > 2);
    expect(whole[2]).toBe('ERR_OUT_OF_RANGE');
  });

  it('gets 413 by its `content-length` before it arrives', async () => {
    const server = await start(HOSTS['HTTP/2']!, { maxPayloadSize: 1000 }, LENGTH);
    const { seen } = post(server.port, { 'content-length': '1001' });
    await until(() => seen.isOver);
    expect(seen.status).toBe(413);
  });

  it('gets 408 if it does not arrive in time', async () => {
    let request: IncomingMessage | undefined;
    const server = await start(HOSTS['HTTP/2']!, { timeoutMs: 1000 }, (given, response) => {
      request = given;
      return LENGTH(given, response);
    });
    const { stream, seen } = post(server.port);
    stream.write('x');
    await until(() => request?.readableFlowing === false);
    server.clock.advance(1000);
    await until(() => seen.isOver);
    expect([seen.status, JSON.parse(seen.body)]).toMatchObject([408, { code: 'request_timeout' }]);
    await until(() => whole.at(-1) === 'ERR_TIMEOUT');
  });
});
