import { control, options, port } from '../lib/control.mjs';
//#region example
import { initTRPC } from '@trpc/server';
import { applyWSSHandler } from '@trpc/server/adapters/ws';
import { WebSocketServer } from 'ws';
import { portcullis } from 'portcullis/ws';

const { procedure, router } = initTRPC.create();
const appRouter = router({
  hello: procedure.query(() => 'world'),
  ticks: procedure.subscription(async function* () {
    for (let ticks = 1; ticks <= 3; ticks++) yield ticks;
  }),
});
const guard = portcullis(options);
const wss = new WebSocketServer({ port });
guard.protect(wss);
applyWSSHandler({ wss, router: appRouter });
//#endregion
await control(guard, wss);
