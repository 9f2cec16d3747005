import { type ChildProcess, spawn } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import WebSocket from 'ws';
import { example } from './fixtures/example.js';
import { until } from './fixtures/until.js';

// The example of the README as a real server on Bun, with real clients.
let server: ChildProcess;
let base = '';

beforeAll(async () => {
  server = spawn('node_modules/.bin/bun', [example('elysia/server.ts')], {
    env: { ...process.env, PORT: '0' },
  });
  base = await new Promise<string>((resolve, reject) => {
    server.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    server.stdout?.on('data', (data: Buffer) => {
      const url = /listening on (http:\S+?):? /.exec(data.toString())?.[1];
      if (url !== undefined) resolve(url.replace(/:?$/, '').replace(/\/$/, ''));
    });
  });
});
afterAll(() => void server.kill());

const total = async (): Promise<number> =>
  ((await (await fetch(`${base}/stats`)).json()) as { totalConnections: number }).totalConnections;

it('admits, counts, refuses with 429 before the upgrade, and frees seats', async () => {
  const clients: WebSocket[] = [];
  const open = (): Promise<number> =>
    new Promise((resolve) => {
      const client = new WebSocket(`${base.replace('http', 'ws')}/ws`);
      clients.push(client);
      client.on('open', () => client.send('hello'));
      client.on('message', () => resolve(0));
      client.on('unexpected-response', (_request, response) => resolve(response.statusCode ?? -1));
      client.on('error', () => undefined);
    });
  for (let i = 0; i < 10; i++) expect(await open()).toBe(0);
  expect(await open()).toBe(429);
  expect(await total()).toBe(10);
  for (const client of clients.slice(0, 5)) client.close();
  for (const client of clients.slice(5)) client.terminate();
  await until(async () => (await total()) === 0);
});

it('the example of the builder serves, and ends on a signal', async () => {
  const process_ = spawn('node_modules/.bin/bun', [example('builder/server.ts')], {
    env: { ...process.env, PORT: '0' },
  });
  const url = await new Promise<string>((resolve, reject) => {
    process_.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    process_.stdout?.on('data', (data: Buffer) => {
      const found = /listening on (http:\S+?):? /.exec(data.toString())?.[1];
      if (found !== undefined) resolve(found.replace(/[:/]*$/, ''));
    });
  });
  expect((await fetch(`${url}/health/ready`)).status).toBe(200);
  const client = new WebSocket(`${url.replace('http', 'ws')}/ws`);
  const pong = new Promise<string>(
    (resolve) => void client.on('message', (data) => resolve(String(data))),
  );
  client.on('open', () => client.send('{"type":"ping"}'));
  expect(JSON.parse(await pong)).toMatchObject({ type: 'pong' });
  const code = new Promise<number>((resolve) => void client.on('close', resolve));
  const exit = new Promise<number | null>((resolve) => void process_.on('exit', resolve));
  process_.kill('SIGTERM');
  expect([await code, await exit]).toEqual([1001, 0]);
});
