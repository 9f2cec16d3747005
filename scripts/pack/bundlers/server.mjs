// A guarded server as an application writes it. It starts, tries itself and ends.
import { createServer } from 'node:http';
import { ConnectionManager } from 'portcullis';
import { portcullis } from 'portcullis/ws';
import { WebSocketServer } from 'ws';
import { tryServer } from './client.cjs';

const server = createServer();
const webSocketServer = new WebSocketServer({ noServer: true });
const guard = portcullis({ limits: { maxConnectionsPerIp: 1 } });
if (!(guard.manager instanceof ConnectionManager)) throw new Error('there are two copies');
guard.attach(server, webSocketServer);
server.listen(0, '127.0.0.1', async () => {
  await tryServer(server.address().port);
  process.exit();
});
