import { control, options, port } from '../lib/control.mjs';
//#region example
import crossws from 'crossws/adapters/bun';
import { portcullis } from 'portcullis/bun';

const guard = portcullis(options);
const ws = crossws({
  hooks: { message: (peer, message) => void peer.send(message.rawData) },
});
const server = Bun.serve({
  port,
  fetch: guard.fetch((request, server) => ws.handleUpgrade(request, server)),
  websocket: guard.websocket(ws.websocket),
});
//#endregion
await control(guard, server);
