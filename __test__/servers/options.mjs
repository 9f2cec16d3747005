// The options that a contract server reads from its environment, as JSON, and the paths that all of them answer.
import {
  GracefulShutdown,
  TimerManager,
  TokenVerifier,
  UnauthorizedError,
} from '../../dist/index.js';

/** Makes the verifier of `auth` from its policy. */
const verifying = ({ policy, ...where }) => {
  const verifier = new TokenVerifier({ algorithms: ['HS256'], ...policy });
  return Object.keys(where).length === 0 ? verifier : { verifier, ...where };
};

process.on('unhandledRejection', (error) => console.log(`unhandled ${error}`));
process.on('uncaughtException', ({ code, message, stack }) => {
  // The test has gone: to tell it would fail again.
  if (code === 'EPIPE') process.exit(1);
  if (message !== 'open failed') console.log(`unhandled ${stack.replaceAll('\n', ' ')}`);
});

/** Returns the options of a server, and its answers, from `GUARD_OPTIONS`; `many.mjs` sets it for each of its servers. */
export function contract() {
  const {
    whoAmI,
    auth,
    shutdown: given,
    hooks = [],
    kind,
    unix,
    addressBy,
    lastWords,
    ...rest
  } = JSON.parse(process.env.GUARD_OPTIONS ?? '{}');

  const timers = new TimerManager();
  const shutdown = new GracefulShutdown(timers, given);
  for (const name of hooks) {
    shutdown.onShutdown(name, () => {
      if (name === 'throws') throw new Error('thrown');
      return name === 'hangs' ? new Promise(() => undefined) : undefined;
    });
  }
  const tally = {
    identified: 0,
    identifying: 0,
    mostIdentifying: 0,
    largestBody: 0,
    /** Calls of `clientAddress`, and errors that were reported. */
    addressed: 0,
    errors: 0,
  };
  let release;
  /** Resolves on a request of `/release`, or 200 ms after the signal to end: the answer of `/held`. */
  const released = new Promise((resolve) => (release = resolve));
  if (process.env.MANY_SERVERS === undefined) {
    process.once('SIGTERM', () => setTimeout(release, 200).unref());
    if (given?.signals === undefined) process.once('SIGTERM', () => void end(shutdown));
  }

  return {
    options: {
      ...rest,
      ...(auth === undefined ? {} : { auth: verifying(auth) }),
      ...(lastWords === undefined ? {} : { onDrain: ({ socket }) => void socket.send(lastWords) }),
      timers,
    },
    timers,
    shutdown,
    tally,
    /** Which server a file with several of them is to be. */
    kind,
    /** Where the server listens, for hosts that take it as an object. */
    place: unix === undefined ? { port: 0, hostname: '127.0.0.1' } : { unix },
    /** The path that the server listens on, in the place of a port. */
    path: unix,

    /**
     * Tells that the server listens.
     * @param {number | undefined} port
     */
    listening: (port) =>
      console.log(
        `listening on ${unix === undefined ? `http://127.0.0.1:${port}` : `unix:${unix}`}`,
      ),

    /**
     * Answers the paths that all servers have besides their WebSockets and figures.
     * @param {string} pathname
     * @param {URLSearchParams} query
     * @param {AbortSignal | undefined} signal
     * @param {() => Promise<string>} body
     * @param {AbortSignal} [draining]
     * @returns {Promise<string> | undefined}
     */
    answer(pathname, query, signal, body, draining) {
      // Only the server may hold the process.
      const sleep = (ms) => new Promise((resolve) => void setTimeout(resolve, ms).unref());
      switch (pathname) {
        case '/slow':
          return sleep(Number(query.get('ms'))).then(() => 'slow');
        case '/held':
          return released.then(() => 'held');
        case '/release':
          release();
          return Promise.resolve('released');
        case '/length':
          return body().then((text) => {
            tally.largestBody = Math.max(tally.largestBody, text.length);
            return String(text.length);
          });
        case '/tally':
          return Promise.resolve(JSON.stringify(tally));
        case '/aborted':
          return new Promise((resolve) => {
            signal?.addEventListener('abort', () => {
              console.log('heard the signal');
              resolve('aborted');
            });
          });
        case '/poll':
          return new Promise((resolve) => {
            if (draining?.aborted === true) resolve('too late');
            draining?.addEventListener('abort', () => resolve('nothing new'), { once: true });
          });
        case '/throws':
          return Promise.reject(new Error('a secret'));
        default:
          return undefined;
      }
    },

    /**
     * @template R
     * @param {(request: R, name: string) => string | null | undefined} headerOf
     * @returns {{ clientAddress?: (request: R) => string, onIdentifyError?: () => void, identify?: (request: R) => Promise<string | undefined> }}
     */
    identifying(headerOf) {
      async function userOf(value) {
        const user = value ?? undefined;
        tally.identified++;
        tally.identifying++;
        tally.mostIdentifying = Math.max(tally.mostIdentifying, tally.identifying);
        // A database that does not answer, until the request of `/release` or ever.
        await (user?.startsWith('waits') ? released : undefined);
        await (user === 'never' ? new Promise(() => undefined) : undefined);
        tally.identifying--;
        if (user === 'throw') throw new Error('a secret');
        if (whoAmI === 'nobody' || user?.endsWith('nobody')) throw new UnauthorizedError('nobody');
        return user;
      }
      return {
        ...(addressBy === undefined
          ? {}
          : {
              clientAddress(request) {
                tally.addressed++;
                return addressOf(headerOf(request, addressBy));
              },
              onIdentifyError: () => void tally.errors++,
            }),
        ...(whoAmI === undefined
          ? {}
          : { identify: (request) => userOf(headerOf(request, 'x-user')) }),
      };
    },
  };
}

/**
 * An endless stream of server-sent events, which says `bye` and ends once the server drains.
 * @param {AbortSignal} draining
 * @returns {Response}
 */
export function events(draining) {
  let end = () => undefined;
  const encoder = new TextEncoder();
  const body = new ReadableStream({
    start(controller) {
      end = () => {
        controller.enqueue(encoder.encode('event: bye\ndata:\n\n'));
        controller.close();
      };
      controller.enqueue(encoder.encode('data: hello\n\n'));
      draining.addEventListener('abort', end, { once: true });
    },
    cancel: () => draining.removeEventListener('abort', end),
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
}

/** Prints the result of the shutdown, and lets the process end by itself. */
async function end(shutdown) {
  const { hookErrors, ...result } = await shutdown.shutdown('SIGTERM');
  console.log(
    `result ${JSON.stringify({ ...result, hookErrors: hookErrors.map(({ name, error }) => `${name}: ${error.message}`) })}`,
  );
}

function addressOf(value) {
  if (value === 'throw') throw new Error('a secret');
  if (value === 'reject') return Promise.reject(new Error('a secret'));
  return value ?? undefined;
}
