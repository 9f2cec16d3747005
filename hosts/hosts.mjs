// The servers of the ecosystem that the contract is tried on. `npm run hosts` runs them.
const NODE = ['node'];
const BUN = ['node_modules/.bin/bun'];
const TSX = ['node', '--import', './hosts/node_modules/tsx/dist/esm/index.mjs'];
/** The program itself: the command that npm installs starts it as a child, which no signal reaches. */
const DENO = [
  `hosts/deno/node_modules/@deno/${process.platform}-${process.arch}${process.platform === 'linux' ? '-glibc' : ''}/deno`,
  'run',
  '-A',
];

const CALLBACK = 'the framework catches the errors of its handlers';
const OWN_MESSAGES = (protocol) => ({
  messages: `it speaks ${protocol}; its own client is tried in the place of an echo`,
  throw: 'its handler is the library',
});

/**
 * A host by its name.
 * - `file`: the server; the region `example` is the code of its page.
 * - `run`: the command before the file.
 * - `cannot`: the abilities of `__test__/fixtures/contract.ts` that it lacks, each with the reason.
 * - `protocols`: the subprotocols of its clients.
 * - `malformed`: its statuses of malformed handshakes besides 400, 405 and 426.
 * - `holdsProcess`: the reason why the process does not end by itself at SIGTERM.
 * - `client`: a test of `clients.mjs`, with a real client of its protocol.
 * - `spec`: its own tests, in the place of the contract.
 * - `build`: a command in that folder, before the first start.
 * - `folder`: a folder with packages of its own, which only the long form installs.
 */
export const HOSTS = {
  'ws { port }': { run: NODE, file: 'servers/ws-port.mjs' },
  'ws { server }': { run: NODE, file: 'servers/ws-server.mjs' },
  'ws { noServer }': { run: NODE, file: 'servers/ws-no-server.mjs' },
  'ws { port } on Bun': { run: BUN, file: 'servers/ws-port.mjs' },
  express: { run: NODE, file: 'servers/express.mjs' },
  'express-ws': { run: NODE, file: 'servers/express-ws.mjs', cannot: { throw: CALLBACK } },
  fastify: { run: NODE, file: 'servers/fastify.mjs', cannot: { throw: CALLBACK } },
  koa: { run: NODE, file: 'servers/koa.mjs' },
  'hono on Bun': {
    run: BUN,
    file: 'servers/hono-bun.ts',
    malformed: [404],
    cannot: { throw: CALLBACK },
  },
  '@hono/node-ws': { run: NODE, file: 'servers/hono-node-ws.mjs', cannot: { throw: CALLBACK } },
  '@hono/node-server 2': {
    run: NODE,
    file: 'servers/hono-node-server.mjs',
    cannot: { throw: CALLBACK },
  },
  nest: { run: TSX, file: 'servers/nest.ts', cannot: { throw: CALLBACK } },
  'crossws on Node': { run: NODE, file: 'servers/crossws-node.mjs', cannot: { throw: CALLBACK } },
  'crossws on Bun': {
    run: BUN,
    file: 'servers/crossws-bun.ts',
    malformed: [500],
    cannot: { throw: CALLBACK },
  },
  h3: { run: NODE, file: 'servers/h3.mjs', cannot: { throw: CALLBACK } },
  'ws { port } on Deno': {
    run: DENO,
    file: 'deno/server.mjs',
    folder: 'deno',
  },
  next: {
    run: NODE,
    file: 'next/server.mjs',
    folder: 'next',
    build: ['node_modules/.bin/next', 'build'],
  },
  nitro: {
    run: NODE,
    file: 'nitro/start.mjs',
    folder: 'nitro',
    build: ['node_modules/.bin/nitropack', 'build'],
    cannot: { throw: CALLBACK },
  },
  'elysia on Node': {
    run: NODE,
    file: 'servers/elysia-node.mjs',
    cannot: { throw: 'its adapter catches the errors of its handlers' },
  },
  'elysia on Node: what its adapter hides': {
    run: NODE,
    file: 'servers/elysia-node-apps.mjs',
    spec: 'elysia-node.spec.ts',
  },
  'endless responses on Node': {
    run: NODE,
    file: 'servers/draining.mjs',
    spec: 'draining.spec.ts',
  },
  'socket.io': { run: NODE, file: 'servers/socket.io.mjs', spec: 'socket.io*.spec.ts' },
  'graphql-ws': {
    run: NODE,
    file: 'servers/graphql-ws.mjs',
    protocols: ['graphql-transport-ws'],
    cannot: {
      ...OWN_MESSAGES('GraphQL over WebSocket'),
      silence: 'it closes clients that send no connection_init within three seconds',
      subprotocols: 'it closes clients without the subprotocol graphql-transport-ws',
    },
    client: 'graphqlWs',
  },
  trpc: {
    run: NODE,
    file: 'servers/trpc.mjs',
    cannot: OWN_MESSAGES('JSON-RPC of tRPC'),
    client: 'trpc',
  },
  'y-websocket': {
    run: NODE,
    file: 'servers/y-websocket.mjs',
    cannot: OWN_MESSAGES('the sync protocol of Yjs'),
    client: 'yWebsocket',
    holdsProcess: 'the timers of its documents hold the process',
  },
  hocuspocus: {
    run: NODE,
    file: 'servers/hocuspocus.mjs',
    cannot: OWN_MESSAGES('the sync protocol of Yjs'),
    client: 'hocuspocus',
  },
};
