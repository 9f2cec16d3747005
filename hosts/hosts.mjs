// The servers of the ecosystem that the contract is tried on. `npm run hosts` runs them.
const NODE = ['node'];
const BUN = ['node_modules/.bin/bun'];
const TSX = ['node', '--import', './hosts/node_modules/tsx/dist/esm/index.mjs'];

const CALLBACK = 'the framework catches the errors of its handlers';
const OWN_MESSAGES = (protocol) => ({
  messages: `it speaks ${protocol}; its own client is tried in the place of an echo`,
  throw: 'its handler is the library',
});

/**
 * A host by its name.
 * - `file`: the server, in `servers/`; the region `example` is the code of its page.
 * - `run`: the command before the file.
 * - `cannot`: the abilities of `__test__/fixtures/contract.ts` that it lacks, each with the reason.
 * - `protocols`: the subprotocols of its clients.
 * - `client`: a test of `clients.mjs`, with a real client of its protocol.
 * - `spec`: its own tests, in the place of the contract.
 * - `folder`: a folder with packages of its own, which only the long form installs.
 */
export const HOSTS = {
  'ws { port }': { run: NODE, file: 'ws-port.mjs' },
  'ws { server }': { run: NODE, file: 'ws-server.mjs' },
  'ws { noServer }': { run: NODE, file: 'ws-no-server.mjs' },
  'ws { port } on Bun': { run: BUN, file: 'ws-port.mjs' },
  express: { run: NODE, file: 'express.mjs' },
  'express-ws': { run: NODE, file: 'express-ws.mjs', cannot: { throw: CALLBACK } },
  fastify: { run: NODE, file: 'fastify.mjs', cannot: { throw: CALLBACK } },
  koa: { run: NODE, file: 'koa.mjs' },
  'hono on Bun': { run: BUN, file: 'hono-bun.ts', cannot: { throw: CALLBACK } },
  '@hono/node-ws': { run: NODE, file: 'hono-node-ws.mjs', cannot: { throw: CALLBACK } },
  '@hono/node-server 2': { run: NODE, file: 'hono-node-server.mjs', cannot: { throw: CALLBACK } },
  nest: { run: TSX, file: 'nest.ts', cannot: { throw: CALLBACK } },
  'crossws on Node': { run: NODE, file: 'crossws-node.mjs', cannot: { throw: CALLBACK } },
  'crossws on Bun': { run: BUN, file: 'crossws-bun.ts', cannot: { throw: CALLBACK } },
  h3: { run: NODE, file: 'h3.mjs', cannot: { throw: CALLBACK } },
  'elysia on Node': {
    run: NODE,
    file: 'elysia-node.mjs',
    cannot: { throw: 'its adapter catches the errors of its handlers' },
  },
  pages: { run: NODE, file: 'socket.io-page.mjs', spec: 'pages.spec.ts' },
  'elysia on Node: what its adapter hides': {
    run: NODE,
    file: 'elysia-node-apps.mjs',
    spec: 'elysia-node.spec.ts',
  },
  'socket.io': { run: NODE, file: 'socket.io.mjs', spec: 'socket.io*.spec.ts' },
  'graphql-ws': {
    run: NODE,
    file: 'graphql-ws.mjs',
    protocols: ['graphql-transport-ws'],
    cannot: {
      ...OWN_MESSAGES('GraphQL over WebSocket'),
      subprotocols: 'it closes clients without the subprotocol graphql-transport-ws',
    },
    client: 'graphqlWs',
  },
  trpc: { run: NODE, file: 'trpc.mjs', cannot: OWN_MESSAGES('JSON-RPC of tRPC'), client: 'trpc' },
  'y-websocket': {
    run: NODE,
    file: 'y-websocket.mjs',
    cannot: OWN_MESSAGES('the sync protocol of Yjs'),
    client: 'yWebsocket',
  },
  hocuspocus: {
    run: NODE,
    file: 'hocuspocus.mjs',
    cannot: OWN_MESSAGES('the sync protocol of Yjs'),
    client: 'hocuspocus',
  },
};
