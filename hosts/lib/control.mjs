// Shared by the servers of hosts/: the options of their guard, which the test names, and a second
// HTTP server with their figures, so that each file is as short as in a real application.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { contract } from '../../__test__/servers/options.mjs';

const { identifying, options: given, shutdown } = contract();

/** Reads a header of a `Request` or of an `IncomingMessage`. */
const headerOf = ({ headers }, name) =>
  typeof headers.get === 'function' ? headers.get(name) : headers[name];

export const options = { ...given, ...identifying(headerOf) };
/** Any free port. */
export const port = 0;

/** A listener of `connection` that throws for the path `/ws?throw`. */
export const throwOnDemand = (_ws, request) => {
  if (request.url?.endsWith('throw')) throw new Error('open failed');
};

/** Notes the connections that a guard admits; returns a function that returns the newest. */
function watchAdmissions({ manager }) {
  let newest;
  for (const name of ['commit', 'commitUnnamed']) {
    const commit = manager[name];
    manager[name] = (...args) => {
      const result = commit.apply(manager, args);
      if (result.success) newest = result.connection;
      return result;
    };
  }
  return () => newest;
}

async function portOf(server) {
  if (typeof server.port === 'number') return server.port;
  if (server.address() === null) await once(server, 'listening');
  return server.address().port;
}

/**
 * Serves the figures of a guard on a port of their own, drains it at SIGTERM, and tells both ports.
 * @param guard the guard
 * @param server the host's server: of `node:http`, of `ws`, or of Bun
 */
export async function control(guard, server) {
  const newest = watchAdmissions(guard);
  shutdown.add(guard.drainable(server));
  const answers = {
    '/stats': () => guard.manager.getStats(),
    '/guard': () => guard.snapshot(),
    '/drain': () => guard.manager.drain(),
    '/figures': () => {
      const { messageCount, bytesReceived, bytesSent, ip, userId } = newest() ?? {};
      return [messageCount, bytesReceived, bytesSent, ip, userId];
    },
  };
  const figures = createServer((request, response) => {
    const answer = answers[request.url];
    response.end(answer === undefined ? '' : JSON.stringify(answer() ?? null));
  });
  figures.listen(0, '127.0.0.1');
  await once(figures, 'listening');
  // Only the host's server may hold the process.
  figures.unref();
  figures.on('connection', (socket) => socket.unref());
  console.log(
    `listening on http://127.0.0.1:${await portOf(server)}, control on ${figures.address().port}`,
  );
}
