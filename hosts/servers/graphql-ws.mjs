import { control, options, port } from '../lib/control.mjs';
//#region example
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const schema = buildSchema('type Query { hello: String } type Subscription { ticks: Int }');
const roots = {
  query: { hello: () => 'world' },
  subscription: {
    ticks: async function* () {
      for (let ticks = 1; ticks <= 3; ticks++) yield { ticks };
    },
  },
};
const guard = portcullis(options);
const webSocketServer = new WebSocketServer({ port, path: '/ws' });
guard.protect(webSocketServer);
useServer({ schema, roots }, webSocketServer);
//#endregion
await control(guard, webSocketServer);
