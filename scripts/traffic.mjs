// Traffic for the demo: real clients of its server, WebSocket and HTTP, on this machine only.
import http from 'node:http';
import WebSocket from 'ws';

/** Paths of the demo; a path that is listed twice is requested twice as often. */
const PATHS = [
  '/',
  '/',
  '/',
  '/users/3',
  '/users/7',
  '/users/14',
  '/users/18',
  '/report',
  '/flaky',
];
/** Clients behind the demo's proxy that ask too often, and their requests in a second. */
const NOISY = [
  ['203.0.113.5', 3],
  ['203.0.113.77', 10],
  ['2001:db8:bad::7', 4],
];
const BLOCK_EVERY_MS = 45_000;
const WAVE_MS = 120_000;

/**
 * Returns the address of a client. Linux has all of 127.0.0.0/8: a fifth of the clients share one
 * address.
 */
const addressOf = (index) =>
  process.platform === 'linux' ? `127.0.0.${index % 5 === 0 ? 9 : 10 + (index % 60)}` : undefined;

/** Returns the query of a client: a third of the clients has no user, a seventh shares one. */
const queryOf = (index) =>
  index % 3 === 0 ? '' : `?user=user-${index % 7 === 0 ? 1 : index % 97}`;

/** Connects a client for 20 to 80 seconds; after its end, another one takes its place. */
function connect(host, index) {
  const socket = new WebSocket(`ws://${host}/ws${queryOf(index)}`, {
    localAddress: addressOf(index),
  });
  let timer;
  socket.on('open', () => {
    // A third stays silent.
    if (index % 3 === 1) return;
    const send = () => socket.send('x'.repeat(20 + (index % 200)));
    timer = setInterval(send, 400 + (index % 17) * 100);
  });
  socket.on('close', () => {
    clearInterval(timer);
    setTimeout(connect, 1000 + Math.random() * 4000, host, index);
  });
  socket.on('error', () => undefined);
  setTimeout(() => socket.close(), 20_000 + Math.random() * 60_000);
}

/**
 * Connects clients, sends requests in waves, and blocks the server's loop now and then, until the
 * process ends.
 * @param base such as `http://127.0.0.1:3000`
 */
export function startTraffic(base, clients) {
  const { hostname, port, host } = new URL(base);
  if (!/^(?:127\.\d+\.\d+\.\d+|localhost)$/.test(hostname))
    throw new Error('traffic goes to this machine only');
  const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  // As a proxy on this machine passes them on.
  const get = (path, client = `198.51.100.${Math.floor(Math.random() * 40)}`) =>
    http
      .get({ hostname, port, path, agent, headers: { 'x-forwarded-for': client } }, (response) =>
        response.resume(),
      )
      .on('error', () => undefined);
  for (let index = 0; index < clients; index++)
    setTimeout(connect, (index * 2000) / clients, host, index);
  setInterval(() => {
    const wave = 1 + Math.sin((Date.now() / WAVE_MS) * 2 * Math.PI) * 0.6;
    const count = Math.max(1, (clients / 12) * wave);
    for (let at = 0; at < count; at++) get(PATHS[Math.floor(Math.random() * PATHS.length)]);
  }, 100);
  for (const [client, perSecond] of NOISY)
    setInterval(() => get('/report', client), 1000 / perSecond);
  setInterval(() => get('/block'), BLOCK_EVERY_MS);
}
