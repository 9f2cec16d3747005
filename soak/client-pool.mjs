// A process of well-behaved clients: they connect, answer pings, and send messages if CLIENT_POOL
// says so.
import WebSocket from 'ws';

const { port, count, sendEveryMs } = JSON.parse(process.env.CLIENT_POOL);
const sockets = Array.from({ length: count }, (_, at) => {
  // Linux has all of 127.0.0.0/8 on its loopback interface.
  const localAddress = process.platform === 'linux' ? `127.0.1.${1 + (at % 200)}` : undefined;
  return new WebSocket(`ws://127.0.0.1:${port}/ws`, { localAddress });
});
let gone = 0;
for (const socket of sockets) {
  socket.on('error', () => undefined);
  socket.on('close', (code) => console.log(`closed with ${code}, ${++gone} by now`));
}
await Promise.all(
  sockets.map((socket) => new Promise((resolve) => void socket.on('open', resolve))),
);
console.log('all are open');
if (sendEveryMs !== undefined)
  setInterval(
    () => sockets.forEach((socket) => socket.readyState === 1 && socket.send('here I am')),
    sendEveryMs,
  );
// The end of the standard input means that the parent was killed: never outlive it.
process.stdin.on('end', () => process.exit(0)).resume();
