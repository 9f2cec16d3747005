// Traffic for the demo: real clients of its server, WebSocket and HTTP, on this machine only.
import http from 'node:http';
import WebSocket from 'ws';

/** @param base such as `http://127.0.0.1:3000` */
export function traffic(base, clients) {
  const { hostname, port, host } = new URL(base);
  if (!/^(?:127\.\d+\.\d+\.\d+|localhost)$/.test(hostname))
    throw new Error('traffic goes to this machine only');
  const agent = new http.Agent({ keepAlive: true, maxSockets: 32 });
  const paths = [
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
  const get = (path) =>
    http
      .get({ hostname, port, path, agent }, (response) => response.resume())
      .on('error', () => undefined);
  const pick = (list) => list[Math.floor(Math.random() * list.length)];
  let sockets = 0;
  let isOver = false;
  const open = (index) => {
    if (isOver) return;
    // Linux has all of 127.0.0.0/8: some clients share an address, most do not.
    const local =
      process.platform === 'linux'
        ? `127.0.0.${index % 5 === 0 ? 9 : 10 + (index % 60)}`
        : undefined;
    const user = index % 3 === 0 ? '' : `?user=user-${index % 7 === 0 ? 1 : index % 97}`;
    const socket = new WebSocket(`ws://${host}/ws${user}`, { localAddress: local });
    let timer;
    socket.on('open', () => {
      sockets++;
      // A third is silent.
      if (index % 3 !== 1)
        timer = setInterval(
          () => socket.send('x'.repeat(20 + (index % 200))),
          400 + (index % 17) * 100,
        );
    });
    socket.on('close', () => {
      sockets--;
      clearInterval(timer);
      setTimeout(open, 1000 + Math.random() * 4000, index);
    });
    socket.on('error', () => undefined);
    setTimeout(() => socket.close(), 20_000 + Math.random() * 60_000);
  };
  for (let index = 0; index < clients; index++) setTimeout(open, (index * 2000) / clients, index);
  const requests = setInterval(() => {
    // A wave of two minutes, so that there is something to see.
    const wave = 1 + Math.sin((Date.now() / 120_000) * 2 * Math.PI) * 0.6;
    for (let i = 0; i < Math.max(1, (clients / 12) * wave); i++) get(pick(paths));
  }, 100);
  const blocks = setInterval(() => get('/block'), 45_000);
  return {
    get sockets() {
      return sockets;
    },
    stop() {
      isOver = true;
      clearInterval(requests);
      clearInterval(blocks);
      agent.destroy();
    },
  };
}
