// Endless responses on frameworks for Node: `kind` names one. They end with the drain of the guard.
import { createServer } from 'node:http';
import { node } from '@elysiajs/node';
import { Elysia } from 'elysia';
import express from 'express';
import fastify from 'fastify';
import Koa from 'koa';
import { portcullis as guardElysia } from 'portcullis/elysia';
import { portcullis } from 'portcullis/ws';
import { PassThrough, Readable } from 'node:stream';
import { contract, events } from '../../__test__/servers/options.mjs';

const { kind, listening, options, shutdown } = contract();

/** Writes events to a response of Node until the server drains. */
function write(guard, response) {
  const end = () => response.end('event: bye\ndata:\n\n');
  guard.draining.addEventListener('abort', end);
  response.once('close', () => guard.draining.removeEventListener('abort', end));
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.write('data: hello\n\n');
}

const HOSTS = {
  express(guard) {
    const app = express();
    app.get('/events', (_request, response) => write(guard, response));
    return createServer(guard.request(app));
  },
  async fastify(guard) {
    const app = fastify({ serverFactory: (handler) => createServer(guard.request(handler)) });
    app.get('/events', (_request, reply) => {
      reply.type('text/event-stream');
      return Readable.fromWeb(events(guard.draining).body);
    });
    await app.ready();
    return app.server;
  },
  koa(guard) {
    const app = new Koa();
    app.use((context) => {
      context.type = 'text/event-stream';
      const body = (context.body = new PassThrough());
      const end = () => body.end('event: bye\ndata:\n\n');
      guard.draining.addEventListener('abort', end);
      body.once('close', () => guard.draining.removeEventListener('abort', end));
      body.write('data: hello\n\n');
    });
    return createServer(guard.request(app.callback()));
  },
};

if (kind === 'elysia') {
  const app = new Elysia({ adapter: node() })
    .use(guardElysia(options))
    .get('/events', ({ portcullis: { draining } }) => events(draining))
    .listen({ port: 0, hostname: '127.0.0.1' });
  shutdown.add(app.decorator.portcullis.drainable(app));
  const { server } = app.server.raw.node;
  if (!server.listening) await new Promise((resolve) => server.once('listening', resolve));
  listening(server.address().port);
} else {
  const guard = portcullis(options);
  const server = await HOSTS[kind](guard);
  shutdown.add(guard.drainable(server));
  server.listen(0, '127.0.0.1', () => listening(server.address().port));
}
