import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import WebSocket from 'ws';

// Every file of examples/, as a real server with real clients. `.ts` runs on Bun, `.mjs` on the host of the tests.
let running: ChildProcess[] = [];
afterEach(() => {
  for (const process_ of running) process_.kill('SIGKILL');
  running = [];
});

/** Starts an example on a free port. */
function start(name: string): Promise<{ url: string; process_: ChildProcess }> {
  const runtime = name.endsWith('.ts') ? 'node_modules/.bin/bun' : process.execPath;
  const process_ = spawn(runtime, [`examples/${name}`], { env: { ...process.env, PORT: '0' }, stdio: ['ignore', 'pipe', 'inherit'] });
  running.push(process_);
  return new Promise((resolve, reject) => {
    let output = '';
    process_.on('exit', (code) => reject(new Error(`${name} ended with ${code}: ${output}`)));
    process_.stdout.on('data', (data: Buffer) => {
      output += data.toString();
      const port = /listening on http:\/\/[^\s/]+:(\d+)\//.exec(output)?.[1];
      if (port !== undefined) resolve({ url: `http://127.0.0.1:${port}`, process_ });
    });
  });
}

/** What one client sees: the answer to what it sends, or the status that refuses it. */
function ask(url: string, message: string, protocols: string[] = []): Promise<{ answer: string | number; client: WebSocket }> {
  return new Promise((resolve, reject) => {
    const client = new WebSocket(url.replace('http', 'ws'), protocols);
    client.on('open', () => client.send(message));
    client.on('message', (data) => resolve({ answer: String(data), client }));
    client.on('unexpected-response', (_request, response) => resolve({ answer: response.statusCode ?? -1, client }));
    client.on('error', reject);
  });
}

const json = async (url: string): Promise<Record<string, unknown>> => (await (await fetch(url)).json()) as Record<string, unknown>;

const EXAMPLES: Record<string, (url: string, process_: ChildProcess) => Promise<void>> = {
  'builder.ts': async (url) => {
    expect(JSON.parse(String((await ask(`${url}/ws`, '{"type":"ping"}')).answer))).toMatchObject({ type: 'pong' });
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  },
  'bun.ts': async (url) => {
    expect((await ask(url, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 1 });
  },
  'elysia.ts': async (url) => {
    expect((await ask(`${url}/ws`, 'hello')).answer).toBe('hello');
    expect(await json(`${url}/stats`)).toMatchObject({ totalConnections: 1 });
  },
  'live.ts': async (url) => {
    expect((await ask(`${url}/ws`, 'hello')).answer).toBe('hello');
    expect(await json(`${url.replace('127.0.0.1', 'localhost')}/portcullis/snapshot`)).toMatchObject({ server: { title: 'Portcullis demo' } });
  },
  'ws.mjs': async (url) => {
    expect((await ask(url, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 1 });
  },
  'tokens.mjs': async (url, process_) => {
    const token = await (await fetch(`${url}/token`)).text();
    const { answer, client } = await ask(url, 'hello', ['bearer', token]);
    expect(answer).toBe('ada: hello');
    expect(client.protocol).toBe('bearer');
    expect((await ask(url, 'hello')).answer).toBe(401);
    expect((await ask(url, 'hello', ['bearer', `${token}x`])).answer).toBe(401);
    await ask(url, 'again', ['bearer', token]);
    expect((await ask(url, 'hello', ['bearer', token])).answer).toBe(429);
    const figures = await (await fetch(`${url}/metrics`)).text();
    expect(figures).toMatch(/^portcullis_connections 2$/m);
    expect(figures).toMatch(/^portcullis_refusals_total\{code="user_limit"\} 1$/m);
    expect((await fetch(`${url}/ready`)).status).toBe(200);
    const closed = new Promise<number>((resolve) => void client.on('close', resolve));
    const exit = new Promise<number | null>((resolve) => void process_.on('exit', resolve));
    process_.kill('SIGTERM');
    expect([await closed, await exit]).toEqual([1001, 0]);
  },
  'workers.mjs': async (url) => {
    const [first, second] = (await json(url))['workers'] as [string, string];
    for (const one of [first, second, first]) expect((await ask(one, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 3 });
    // The limit of an address is that of all workers.
    expect((await ask(second, 'hello')).answer).toBe(429);
  },
};

it('every example is started here', () => {
  expect(readdirSync('examples').toSorted()).toEqual(Object.keys(EXAMPLES).toSorted());
});

describe('the example', () => {
  for (const [name, check] of Object.entries(EXAMPLES)) {
    it(name, async () => {
      const { url, process_ } = await start(name);
      await check(url, process_);
    });
  }
});
