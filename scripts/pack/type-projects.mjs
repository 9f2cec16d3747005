// Projects of users, which compile against the packed declarations with the strictest options of
// the compiler.
import { readFileSync } from 'node:fs';

const STRICT = {
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable'],
  strict: true,
  skipLibCheck: false,
  isolatedModules: true,
  verbatimModuleSyntax: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
};

const USE = `
const timers = new TimerManager();
const manager = new ConnectionManager({ maxConnectionsPerIp: 10 }, timers);
const result: AdmissionResult = manager.addConnection('one', new FakeSocket(), '203.0.113.1');
if (!result.success) console.log(result.code satisfies RefusalCode, result.retryAfterMs);
else console.log(result.connection.received(3) === 'ok');
try {
  manager.updateLimits({ maxConnectionsPerIp: 1 });
} catch (error) {
  if (error instanceof PortcullisError && error.code === 'ERR_OUT_OF_RANGE') console.log(error.field);
}
// @ts-expect-error the limit must be a number
manager.updateLimits({ maxConnectionsPerIp: 'many' });
`;

const ESM = `
import { ConnectionManager, PortcullisError, TimerManager, type AdmissionResult, type RefusalCode } from 'portcullis';
import { FakeSocket } from 'portcullis/testing';
${USE}`;

const CJS = `
import portcullis = require('portcullis');
import testing = require('portcullis/testing');
const { ConnectionManager, PortcullisError, TimerManager } = portcullis;
const { FakeSocket } = testing;
type AdmissionResult = portcullis.AdmissionResult;
type RefusalCode = portcullis.RefusalCode;
${USE}`;

const WS = `
import { createServer } from 'node:http';
import { WebSocketServer } from 'ws';
import { connectionOf, portcullis } from 'portcullis/ws';
const server = createServer();
const webSocketServer = new WebSocketServer({ noServer: true });
webSocketServer.on('connection', (ws) => console.log(connectionOf(ws)?.id));
portcullis({ limits: { maxConnectionsPerIp: 10 } }).attach(server, webSocketServer);
`;

const BUN = `
import { portcullis } from 'portcullis/bun';
const guard = portcullis({ limits: { maxConnectionsPerIp: 10 } });
Bun.serve({
  fetch: guard.fetch((request, server) => (server.upgrade(request) ? undefined : new Response('', { status: 400 }))),
  websocket: guard.websocket({ message: (ws, message) => void ws.send(message) }),
});
`;

const ELYSIA = `
import { Elysia } from 'elysia';
import plugin, { ElysiaServerBuilder, portcullis } from 'portcullis/elysia';
const app = new Elysia().use(portcullis({ limits: { maxConnectionsPerIp: 10 } })).get('/', ({ portcullis }) => portcullis.manager.snapshot());
export type App = typeof app;
export const same: typeof portcullis = plugin;
export const builder = new ElysiaServerBuilder({ port: 0 });
`;

/** Returns the README's examples: Elysia, ws, and ws with the guard that has everything on. */
function readme() {
  const [elysia, ws, whole] = [
    ...readFileSync(new URL('../../README.md', import.meta.url), 'utf8').matchAll(
      /```ts\n([\s\S]*?)```/g,
    ),
  ].map(([, code]) => code);
  return {
    'elysia.ts': elysia,
    'ws.ts': ws,
    'whole.ts': ws.slice(0, ws.indexOf('portcullis({')) + whole,
  };
}

/** Returns the code under "After" of docs/migrating.md, a file for each package. */
function migrating() {
  const page = readFileSync(new URL('../../docs/migrating.md', import.meta.url), 'utf8');
  const blocks = [...page.matchAll(/```ts\n([\s\S]*?)```/g)];
  return Object.fromEntries(blocks.map(([, code], at) => [`after-${at + 1}.ts`, code]));
}

const esm = { module: 'NodeNext', moduleResolution: 'NodeNext' };
const bundler = { module: 'ESNext', moduleResolution: 'Bundler' };
const project = (title, files, options, packages, type = 'module') => ({
  title,
  files: { ...files, 'package.json': JSON.stringify({ type }) },
  config: { compilerOptions: { ...STRICT, ...options }, include: ['*.ts', '*.cts'] },
  packages: ['@types/node', 'undici-types', ...packages],
});

/** Returns the projects: files, tsconfig, and the packages that each can import. */
export function typeProjects() {
  const node = { types: ['node'] };
  const bun = { types: ['bun'] };
  return [
    // Without ws and elysia: a user of the main entry has not installed them.
    project('NodeNext, ESM', { 'main.ts': ESM }, { ...esm, ...node }, []),
    project('Bundler', { 'main.ts': ESM }, { ...bundler, ...node }, []),
    project('NodeNext, CommonJS', { 'main.ts': CJS }, { ...esm, ...node }, [], 'commonjs'),
    project('ws, NodeNext', { 'main.ts': WS }, { ...esm, ...node }, ['ws', '@types/ws']),
    project('ws, Bundler', { 'main.ts': WS }, { ...bundler, ...node }, ['ws', '@types/ws']),
    project('bun and elysia, NodeNext', { 'main.ts': BUN, 'app.ts': ELYSIA }, { ...esm, ...bun }, [
      'elysia',
      '@types/bun',
      'bun-types',
    ]),
    project("the README's examples", readme(), { ...esm, ...bun }, [
      'ws',
      '@types/ws',
      'elysia',
      '@types/bun',
      'bun-types',
    ]),
    project('docs/migrating.md', migrating(), { ...esm, ...bun }, [
      'ws',
      '@types/ws',
      'elysia',
      '@types/bun',
      'bun-types',
    ]),
    project(
      'bun and elysia, Bundler',
      { 'main.ts': BUN, 'app.ts': ELYSIA },
      { ...bundler, ...bun },
      ['elysia', '@types/bun', 'bun-types'],
    ),
  ];
}
