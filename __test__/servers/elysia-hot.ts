// `bun --hot` evaluates this file again in the same process, whenever it is written.
import { Elysia } from 'elysia';
import { portcullis } from '../../dist/elysia.js';
import { listening, options } from './options.mjs';

const state = globalThis as { runs?: number; port?: number };
state.runs = (state.runs ?? 0) + 1;
const { runs } = state;
const app = new Elysia()
  .use(portcullis(options))
  .ws('/ws', { message: (ws, message) => void ws.send(message) })
  .get('/run', () => runs)
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .listen({ port: state.port ?? 0, hostname: '127.0.0.1' });
const port = app.server?.port;
if (port !== undefined) state.port = port;
listening(port);
