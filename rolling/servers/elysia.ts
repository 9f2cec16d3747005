// `portcullis/elysia` on Bun: http or https.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { GracefulShutdown } from '../../dist/index.js';
import { endOnSignal, events, listening, shutdownOptions, tls, work } from './settings.mjs';

const app = new Elysia()
  .use(portcullis({ limits: {}, requests: {} }))
  .ws('/ws', { message: (ws, data) => void ws.send(data as string) })
  .get('/events', ({ portcullis }) => events(portcullis.draining))
  .all(
    '/',
    async ({ request }) => {
      await request.text();
      await work();
      return 'done';
    },
    { parse: 'none' },
  )
  .listen({ port: 0, hostname: '127.0.0.1', ...(tls === undefined ? {} : { tls }) } as never);
endOnSignal(new GracefulShutdown(shutdownOptions).add(app.decorator.portcullis.drainable(app)));
listening(app.server?.port);
