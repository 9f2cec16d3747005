// Starts what Nitro has built, on any free port, and hands it the options of the test.
import { Server } from 'node:net';
import { control, options } from '../lib/control.mjs';

process.env.NITRO_SHUTDOWN_DISABLED = 'true';
let guard;
globalThis.portcullisHosts = { options, onGuard: (made) => (guard = made) };
const { listen } = Server.prototype;
const listening = new Promise((resolve) => {
  Server.prototype.listen = function (...args) {
    Server.prototype.listen = listen;
    resolve(this);
    return listen.call(this, 0, '127.0.0.1', args.at(-1));
  };
});
await import('./.output/server/index.mjs');
await control(guard, await listening);
