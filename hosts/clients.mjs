// Real clients of the hosts that have a protocol of their own. Each connects, uses it, and leaves.
import assert from 'node:assert/strict';
import { HocuspocusProvider } from '@hocuspocus/provider';
import { createTRPCClient, createWSClient, wsLink } from '@trpc/client';
import { createClient } from 'graphql-ws';
import { WebSocket } from 'ws';
import { WebsocketProvider } from 'y-websocket';
import { Doc } from 'yjs';

/** Resolves once `document` has this text. */
const hasText = (document, wanted) =>
  new Promise((resolve) => {
    const text = document.getText('text');
    const look = () => (text.toString() === wanted ? resolve() : undefined);
    text.observe(look);
    look();
  });

/** Joins two documents by their providers, and checks that one gets the text of the other. */
async function sync(join) {
  const documents = [new Doc(), new Doc()];
  const leave = documents.map((document) => join(document));
  documents[0].getText('text').insert(0, 'hello');
  await hasText(documents[1], 'hello');
  for (const end of leave) end();
}

export const CLIENTS = {
  async graphqlWs(url) {
    const client = createClient({ url, webSocketImpl: WebSocket });
    const ticks = [];
    for await (const { data } of client.iterate({ query: 'subscription { ticks }' }))
      ticks.push(data.ticks);
    assert.deepEqual(ticks, [1, 2, 3]);
    for await (const { data } of client.iterate({ query: '{ hello }' }))
      assert.equal(data.hello, 'world');
    await client.dispose();
  },
  async trpc(url) {
    const socket = createWSClient({ url, WebSocket });
    const client = createTRPCClient({ links: [wsLink({ client: socket })] });
    assert.equal(await client.hello.query(), 'world');
    const ticks = [];
    await new Promise((resolve, reject) => {
      client.ticks.subscribe(undefined, {
        onData: (data) => ticks.push(data),
        onComplete: resolve,
        onError: reject,
      });
    });
    assert.deepEqual(ticks, [1, 2, 3]);
    await socket.close();
  },
  yWebsocket: (url) =>
    sync((document) => {
      const provider = new WebsocketProvider(url, 'room', document, {
        WebSocketPolyfill: WebSocket,
        disableBc: true,
      });
      return () => provider.destroy();
    }),
  hocuspocus: (url) =>
    sync((document) => {
      const options = { url, name: 'room', document, WebSocketPolyfill: WebSocket };
      const provider = new HocuspocusProvider(options);
      return () => provider.destroy();
    }),
};
