// A server of Node with another library for its end, or with none. Each gets the same delay before it refuses.
//   node peer.mjs NAME
import http from 'node:http';
import { listening, pause, preDrainDelayMs, work } from './settings.mjs';

const handler = async (request, response) => {
  for await (const _ of request);
  await work();
  response.end('done');
};
const start = (server) => server.listen(0, '127.0.0.1', () => listening(server.address().port));
const exit = () => process.exit(0);

const PEERS = {
  'server.close()': () => {
    const server = http.createServer(handler);
    process.once('SIGTERM', () => void pause(preDrainDelayMs).then(() => server.close(exit)));
    start(server);
  },
  '@godaddy/terminus': async () => {
    const { createTerminus } = await import('@godaddy/terminus');
    const server = http.createServer(handler);
    createTerminus(server, {
      signal: 'SIGTERM',
      timeout: 15_000,
      useExit0: true,
      beforeShutdown: () => pause(preDrainDelayMs),
      healthChecks: { '/health/ready': () => Promise.resolve() },
    });
    start(server);
  },
  'http-terminator': async () => {
    const { createHttpTerminator } = await import('http-terminator');
    const server = http.createServer(handler);
    const terminator = createHttpTerminator({ server, gracefulTerminationTimeout: 15_000 });
    process.once('SIGTERM', async () => {
      await pause(preDrainDelayMs);
      await terminator.terminate();
      exit();
    });
    start(server);
  },
  stoppable: async () => {
    const { default: stoppable } = await import('stoppable');
    const server = stoppable(http.createServer(handler), 15_000);
    process.once('SIGTERM', () => void pause(preDrainDelayMs).then(() => server.stop(exit)));
    start(server);
  },
  lightship: async () => {
    const { createLightship } = await import('lightship');
    const server = http.createServer(handler);
    const lightship = await createLightship({
      port: 0,
      signals: ['SIGTERM'],
      shutdownDelay: preDrainDelayMs,
      gracefulShutdownTimeout: 15_000,
    });
    lightship.registerShutdownHandler(() => new Promise((resolve) => void server.close(resolve)));
    start(server);
    lightship.signalReady();
  },
  fastify: async () => {
    const { default: fastify } = await import('fastify');
    const app = fastify({ return503OnClosing: false });
    app.addContentTypeParser('*', (_request, payload, done) => {
      payload.resume().on('end', () => done(null));
    });
    app.all('/', async () => {
      await work();
      return 'done';
    });
    process.once(
      'SIGTERM',
      () =>
        void pause(preDrainDelayMs)
          .then(() => app.close())
          .then(exit),
    );
    await app.listen({ port: 0, host: '127.0.0.1' });
    listening(app.server.address().port);
  },
};
await PEERS[process.argv[2]]();
