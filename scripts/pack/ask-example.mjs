// Starts the server of an example in this folder, connects a client to it, prints the status of the
// handshake, and ends both: node ask-example.mjs RUNTIME FILE PATH
import { spawn } from 'node:child_process';
import { get } from 'node:http';

const [runtime, file, path] = process.argv.slice(2);
let said = '';
let isUp = false;
const server = spawn(runtime, [file], { stdio: ['ignore', 'pipe', 'inherit'] });
const end = (code) => {
  server.kill('SIGKILL');
  process.exit(code);
};
server.on('exit', (code) => {
  console.error(`the server ended with ${code}`);
  process.exit(1);
});
setTimeout(() => {
  console.error(`the server does not answer: ${said}`);
  end(1);
}, 30_000);

/** Connects one client. */
function connect(port) {
  const request = get({
    host: '127.0.0.1',
    port,
    path,
    headers: {
      connection: 'Upgrade',
      upgrade: 'websocket',
      'sec-websocket-version': '13',
      'sec-websocket-key': Buffer.alloc(16).toString('base64'),
    },
  });
  const tell = ({ statusCode }) => {
    console.log(`WebSocket ${statusCode}`);
    end(0);
  };
  request.on('upgrade', tell);
  request.on('response', tell);
  request.on('error', (error) => {
    console.error(error);
    end(1);
  });
}

server.stdout.on('data', (data) => {
  said += data;
  const port = /listening on http:\/\/[^\s/]+:(\d+)\//.exec(said)?.[1];
  if (port === undefined || isUp) return;
  isUp = true;
  connect(Number(port));
});
