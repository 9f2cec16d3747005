// Shared by the servers of a rolling restart: their scheme, the work of a request, the signal that they end at.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

/** `http`, `https`, or `h2`: HTTP/2 for clients that offer it, HTTP/1.1 for the others. */
export const scheme = process.env.SCHEME;
/** Time for which new clients may still come after the signal, ms. */
export const preDrainDelayMs = Number(process.env.PRE_DRAIN_MS);
export const tls =
  scheme === 'http'
    ? undefined
    : {
        key: readFileSync(join(process.env.TLS_FOLDER, 'key.pem')),
        cert: readFileSync(join(process.env.TLS_FOLDER, 'cert.pem')),
      };

export const pause = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));
/** The work of a request: up to 20 ms. */
export const work = () => pause(Math.random() * 20);
export const listening = (port) => console.log(`listening on ${port}`);

/** An endless response of a `fetch` host, which says `bye` and ends with the drain. */
export function events(draining) {
  let end;
  const body = new ReadableStream({
    start(controller) {
      end = () => {
        controller.enqueue('event: bye\ndata:\n\n');
        controller.close();
      };
      controller.enqueue('data: hello\n\n');
      if (draining.aborted) end();
      else draining.addEventListener('abort', end);
    },
    cancel: () => draining.removeEventListener('abort', end),
  });
  return new Response(body, { headers: { 'content-type': 'text/event-stream' } });
}

/** Ends the process by a `GracefulShutdown`, and prints its result. */
export const shutdownOptions = { preDrainDelayMs, deadlineMs: 15_000, drainWindowMs: 500 };
export const endOnSignal = (shutdown) =>
  process.once('SIGTERM', () => {
    void shutdown.shutdown('SIGTERM').then(({ graceful, leftovers, hookErrors }) => {
      console.log(`result ${JSON.stringify({ graceful, leftovers, hookErrors })}`);
      process.exit(0);
    });
  });
