import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import WebSocket from 'ws';
import { freePort, Redis, SERVER } from '../cluster/redis.mjs';
import { example, runnable } from './fixtures/example.js';
import { until } from './fixtures/until.js';

// Every example, as a real server with real clients: `.ts` on Bun, `.mjs` on Node and on Bun. The
// folders are installed from the packed package by `npm run pack:check`.
const PAGE_TOKEN = 'correct-horse-battery';
const BUN = 'node_modules/.bin/bun';
const RUNTIMES = { Node: process.execPath, Bun: BUN };
let running: ChildProcess[] = [];
/** Server of the cluster's example; without one on the PATH, that example is shown as skipped. */
let redis: Redis | undefined;
let redisUrl = '';
beforeAll(async () => {
  if (SERVER === undefined) return;
  const port = await freePort();
  redis = await new Redis(port).start();
  redisUrl = `redis://127.0.0.1:${port}`;
});
afterAll(() => redis?.remove());
afterEach(() => {
  for (const process_ of running) process_.kill('SIGKILL');
  running = [];
});

/** Starts a server from a file, on a free port. */
function start(runtime: string, name: string): Promise<{ url: string; process_: ChildProcess }> {
  const process_ = spawn(runtime, [name], {
    env: { ...process.env, PORT: '0', PAGE_TOKEN, REDIS: redisUrl },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
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

/** Connects a client and sends a message: the answer, or the status of the refusal. */
function ask(
  url: string,
  message: string,
  protocols: string[] = [],
): Promise<{ answer: string | number; client: WebSocket }> {
  return new Promise((resolve, reject) => {
    const client = new WebSocket(url.replace('http', 'ws'), protocols);
    client.on('open', () => client.send(message));
    client.on('message', (data) => resolve({ answer: String(data), client }));
    client.on('unexpected-response', (_request, response) =>
      resolve({ answer: response.statusCode ?? -1, client }),
    );
    client.on('error', reject);
  });
}

const json = async (url: string): Promise<Record<string, unknown>> =>
  (await (await fetch(url)).json()) as Record<string, unknown>;

const EXAMPLES: Record<string, (url: string, process_: ChildProcess) => Promise<void>> = {
  'builder/server.ts': async (url) => {
    expect(JSON.parse(String((await ask(`${url}/ws`, '{"type":"ping"}')).answer))).toMatchObject({
      type: 'pong',
    });
    expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  },
  'bun/server.ts': async (url) => {
    expect((await ask(url, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 1 });
  },
  'cluster.ts': async (url) => {
    const other = await start(BUN, 'examples/cluster.ts');
    const isUp = async (one: string): Promise<boolean> =>
      (JSON.stringify(await json(one)) ?? '').includes('"state":"up"');
    await until(async () => (await isUp(url)) && (await isUp(other.url)));
    const open = (one: string) => ask(`${one}/?user=ada`, 'hello');
    for (const one of [url, other.url, url])
      expect(String((await open(one)).answer)).toMatch(/^admitted by process \d+$/);
    expect((await open(other.url)).answer).toBe(429);
  },
  'elysia/server.ts': async (url) => {
    expect((await ask(`${url}/ws`, 'hello')).answer).toBe('hello');
    expect(await json(`${url}/stats`)).toMatchObject({ totalConnections: 1 });
  },
  'live.ts': async (url) => {
    expect((await ask(`${url}/ws`, 'hello')).answer).toBe('hello');
    const link = await fetch(`${url}/portcullis?token=${PAGE_TOKEN}`, { redirect: 'manual' });
    const cookie = link.headers.get('set-cookie')?.split(';', 1)[0] ?? '';
    const snapshot = await fetch(`${url}/portcullis/snapshot`, { headers: { cookie } });
    expect(await snapshot.json()).toMatchObject({ server: { title: 'Portcullis demo' } });
  },
  'ws/server.mjs': async (url) => {
    expect((await ask(url, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 1 });
  },
  'tokens/server.mjs': async (url, process_) => {
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
  'workers/server.mjs': async (url) => {
    const [first, second] = (await json(url))['workers'] as [string, string];
    for (const one of [first, second, first])
      expect((await ask(one, 'hello')).answer).toBe('hello');
    expect(await json(url)).toMatchObject({ totalConnections: 3 });
    // All workers share the limit of an address.
    expect((await ask(second, 'hello')).answer).toBe(429);
  },
};

/** Returns every server of examples/: a file, or that of a folder. */
function servers(): string[] {
  return readdirSync('examples', { withFileTypes: true })
    .filter(({ name }) => name !== 'README.md')
    .map((entry) => {
      if (!entry.isDirectory()) return entry.name;
      const files = readdirSync(`examples/${entry.name}`);
      return `${entry.name}/${files.find((file) => file.startsWith('server.'))}`;
    });
}

it('every example is started here', () => {
  expect(servers().toSorted()).toEqual(Object.keys(EXAMPLES).toSorted());
});

describe('a folder of examples', () => {
  const index = readFileSync('examples/README.md', 'utf8');
  for (const path of servers().filter((one) => one.includes('/'))) {
    const [folder, file] = path.split('/') as [string, string];
    it(`${folder} can be copied`, () => {
      const manifest = JSON.parse(readFileSync(`examples/${folder}/package.json`, 'utf8')) as {
        scripts: { start: string };
        dependencies: Record<string, string>;
      };
      expect(manifest.scripts.start).toBe(`${file.endsWith('.ts') ? 'bun' : 'node'} ${file}`);
      const imported = [
        ...readFileSync(`examples/${path}`, 'utf8').matchAll(/ from '((?!node:)[^']+)'/g),
        // An adapter imports its host, which is a peer dependency.
      ].flatMap(([, name]) => name!.split('/').filter((part) => part !== 'bun'));
      expect(Object.keys(manifest.dependencies)).toEqual([...new Set(imported)].toSorted());
      expect(existsSync(`examples/${folder}/README.md`)).toBe(true);
      expect(index).toContain(`](${folder}/README.md)`);
    });
  }
});

describe('the example', () => {
  for (const [name, check] of Object.entries(EXAMPLES)) {
    for (const [title, runtime] of Object.entries(RUNTIMES)) {
      if (title === 'Node' && name.endsWith('.ts')) continue;
      it.skipIf(name === 'cluster.ts' && SERVER === undefined)(`${name} on ${title}`, async () => {
        const { url, process_ } = await start(runtime, example(name));
        await check(url, process_);
      });
    }
  }
});

describe('the README', () => {
  const blocks = [...readFileSync('README.md', 'utf8').matchAll(/```ts\n([\s\S]*?)```/g)].map(
    ([, code]) => code!,
  );
  const told = (server: string): string =>
    `console.log('listening on http://localhost:' + ${server}.port + '/')`;

  it('has ten lines for Elysia that run', async () => {
    const code = blocks[0]!
      .replace('new Elysia()', 'const app = new Elysia()')
      .replace('3000', '0');
    const { url } = await start(BUN, runnable('readme-elysia.ts', `${code}${told('app.server')}`));
    await EXAMPLES['elysia/server.ts']!(url, running[0]!);
  });

  it.each(Object.entries(RUNTIMES))('has ten lines for ws that run on %s', async (_, runtime) => {
    const code = blocks[1]!.replace('listen(3000)', `listen(0, () => ${told('server.address()')})`);
    const { url } = await start(runtime, runnable('readme-ws.mjs', code));
    expect((await ask(url, 'hello')).answer).toBe('hello');
    for (let count = 2; count <= 10; count++) await ask(url, 'hello');
    expect((await ask(url, 'hello')).answer).toBe(429);
  });

  it.each(Object.entries(RUNTIMES))(
    'has a guard with everything on that runs on %s',
    async (_, runtime) => {
      const [, ws, whole] = blocks as [string, string, string];
      // Nothing listens at this address of the key set: the test must not leave the machine.
      const local = whole.replace(
        'https://issuer.example/jwks.json',
        'http://127.0.0.1:9/jwks.json',
      );
      const before = ws.split('portcullis({')[0]!;
      const code = `${before}${local}server.listen(0, () => ${told('server.address()')});`;
      const { url, process_ } = await start(runtime, runnable('readme-whole.mjs', code));
      // A token that is well-formed waits for keys that cannot be fetched.
      expect((await ask(url, 'hello')).answer).toBe(401);
      const token = [{ alg: 'RS256' }, { exp: 4e9 }, 0]
        .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
        .join('.');
      expect((await ask(url, 'hello', ['bearer', token])).answer).toBe(503);
      const authorization = `Bearer ${PAGE_TOKEN}`;
      expect(
        (await fetch(`${url}/portcullis/snapshot`, { headers: { authorization } })).status,
      ).toBe(200);
      expect((await fetch(`${url}/portcullis/snapshot`)).status).toBe(401);
      expect(await (await fetch(url)).text()).toBe('hello');
      const exit = new Promise<number | null>((resolve) => void process_.on('exit', resolve));
      process_.kill('SIGTERM');
      expect(await exit).toBe(0);
    },
  );
});
