import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect as connectHttp2, createServer as createHttp2 } from 'node:http2';
import type { AddressInfo } from 'node:net';
import { PassThrough, pipeline, Readable } from 'node:stream';
import { afterEach, describe, expect, it } from 'vitest';
import { TimerManager } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { portcullis } from '../dist/ws.js';
import { until } from './fixtures/until.js';

// Handlers that answer with a stream after their timeout.
const BUN = 'bun' in process.versions;
const HOSTS: Record<string, () => Server> = {
  http: () => createServer(),
  'HTTP/2': () => createHttp2() as unknown as Server,
};
const ends: (() => void)[] = [];
afterEach(() => {
  for (const end of ends.splice(0)) end();
});

/** Returns the response of a handler that is late: its client has 503. */
async function lateResponse(make: () => Server): Promise<ServerResponse> {
  const clock = new ManualClock();
  const guard = portcullis({
    limits: {},
    timers: new TimerManager({ clock }),
    requests: { timeoutMs: 1000 },
  });
  let late: ServerResponse | undefined;
  const handler = guard.request((_request: IncomingMessage, response: ServerResponse) => {
    late = response;
  });
  const server = make().on('request', handler).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  ends.push(() => {
    server.close();
    guard.close();
  });
  let status: number | undefined;
  if (make === HOSTS['http']) void fetch(url).then((answer) => (status = answer.status));
  else {
    const session = connectHttp2(url);
    ends.push(() => session.destroy());
    const stream = session.request({ ':path': '/' });
    stream.on('response', (headers) => (status = headers[':status'])).resume();
  }
  await until(() => late !== undefined);
  clock.advance(1000);
  await until(() => status === 503);
  return late!;
}

/** A stream that always has data, and its cancellation. */
function endless(): Readable {
  return new Readable({
    read() {
      this.push('data');
    },
  });
}

describe.each(Object.entries(HOSTS))('a late answer of node:%s', (_host, make) => {
  it('that is piped is cancelled', async () => {
    const response = await lateResponse(make);
    const source = endless();
    source.pipe(response);
    await until(() => source.destroyed);
  });

  it('that is piped goes on for its other readers', async () => {
    const response = await lateResponse(make);
    const source = new PassThrough();
    let read = '';
    source.pipe(new PassThrough()).on('data', (data) => (read += String(data)));
    source.pipe(response);
    source.write('for all');
    await until(() => read === 'for all');
    expect(source.destroyed).toBe(false);
  });

  // Bun throws for a response of HTTP/1 that has closed, and so it does if the client has left.
  it.skipIf(BUN && make === HOSTS['http'])(
    'of `pipeline` is cancelled, and tells so (Bun throws for a closed response)',
    async () => {
      const response = await lateResponse(make);
      const source = endless();
      let isOver = false;
      pipeline(source, response, () => (isOver = true));
      await until(() => source.destroyed && isOver);
    },
  );

  it('that waits for `drain` comes to its end, and lets others run', async () => {
    const response = await lateResponse(make);
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    ends.push(() => clearInterval(timer));
    for (let at = 0; at < 10; at++) if (!response.write('data')) await once(response, 'drain');
    await until(() => turns > 0);
  });

  // Fastify asks this: it drops the stream of a late answer, open, if the response has ended.
  it('finds its response like one whose client has left', async () => {
    expect((await lateResponse(make)).writableEnded).toBe(false);
  });
});
