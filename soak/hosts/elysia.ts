import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { answer, options, reply } from './figures.mjs';

const app = new Elysia()
  .use(portcullis(options))
  .ws('/ws', { message: (ws, message) => reply(message, (text) => void ws.send(text)) })
  .get(
    '/*',
    async ({ request, portcullis: guard }) => (await answer(request.url, guard)) ?? 'nothing',
  )
  .listen({ port: 0, hostname: '127.0.0.1' });
console.log(`listening on ${app.server?.port}`);
