const { options, onGuard } = globalThis.portcullisHosts;
//#region example
import { defineNitroPlugin } from 'nitropack/runtime';
import { portcullis } from 'portcullis/ws';
import { WebSocketServer } from 'ws';

const guard = portcullis(options);
const wss = new WebSocketServer({ noServer: true });
guard.protect(wss);

export default defineNitroPlugin(({ h3App }) => {
  // Nitro's entry for Node hands this object to crossws.
  const { websocket } = h3App;
  Object.defineProperty(h3App, 'websocket', { value: { ...websocket, wss } });
});
//#endregion
onGuard(guard);
