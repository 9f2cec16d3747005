// The CPU that a limit adds to a request through an Elysia app, beside that of elysia-rate-limit. The
// apps listen, as in production, and take their requests in turn in one process.
import { Elysia } from 'elysia';
import { rateLimit } from 'elysia-rate-limit';
import { portcullis } from '../dist/elysia.js';
import { compareAsync, verdict } from './compare.mjs';

const REQUESTS = 5_000;
const LIVE = 1000;
const LIMIT = 2 ** 30;
const WINDOW_MS = 60_000;

const keyOf = (request) => request.headers.get('x-api-key');
const listen = (app) => app.get('/', () => 'hello').listen({ port: 0, hostname: '127.0.0.1' });

/** Sends requests one after the other; returns nanoseconds of CPU for each. */
async function timeOf(app) {
  const requests = Array.from(
    { length: REQUESTS },
    (_, at) =>
      new Request('http://127.0.0.1:3000/', { headers: { 'x-api-key': `key-${at % LIVE}` } }),
  );
  const start = process.cpuUsage();
  for (const request of requests) await app.handle(request);
  const { user, system } = process.cpuUsage(start);
  return ((user + system) / REQUESTS) * 1000;
}

/** Prints the figures of three apps: bare, and with a limit by an API key of each package. */
export async function compareApps() {
  const bare = listen(new Elysia());
  const theirs = listen(
    new Elysia().use(
      rateLimit({ max: LIMIT, duration: WINDOW_MS, generator: keyOf, scoping: 'global' }),
    ),
  );
  const perKey = { limit: LIMIT, windowMs: WINDOW_MS };
  const ours = listen(
    new Elysia().use(portcullis({ limits: {}, requests: { rate: { perKey, key: keyOf } } })),
  );
  for (const app of [theirs, ours]) {
    const answer = await app.handle(
      new Request('http://127.0.0.1:3000/', { headers: { 'x-api-key': 'key' } }),
    );
    if (
      answer.headers.get('ratelimit-policy') === null &&
      answer.headers.get('ratelimit-limit') === null
    )
      throw new Error('an app does not limit its requests');
  }
  const [bareNs, theirsNs, oursNs] = await compareAsync(
    'CPU time of a request through an Elysia app, 1,000 live keys',
    [
      ['bare', () => timeOf(bare)],
      ['elysia-rate-limit', () => timeOf(theirs)],
      ['portcullis, requests.rate', () => timeOf(ours)],
    ],
    { rounds: 15 },
  );
  verdict('added CPU, of elysia-rate-limit', (oursNs - bareNs) / (theirsNs - bareNs), 'x', {
    most: 0.3,
    aim: 0.15,
  });
}
