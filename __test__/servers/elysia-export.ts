// Bun serves a default export that has `fetch`. It leaves out one with `stop`, such as an app of Elysia.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { contract } from './options.mjs';

const { options } = contract();
const app = new Elysia()
  .use(portcullis(options))
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .post('/post', ({ body }) => body)
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats());
export default { port: 0, hostname: '127.0.0.1', fetch: app.fetch };
