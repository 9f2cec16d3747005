// The server of server.mjs, by `require`.
const { createServer } = require('node:http');
const { ConnectionManager } = require('portcullis');
const { portcullis } = require('portcullis/ws');
const { WebSocketServer } = require('ws');
const { tryServer } = require('./client.cjs');

const server = createServer();
const webSocketServer = new WebSocketServer({ noServer: true });
const guard = portcullis({ limits: { maxConnectionsPerIp: 1 } });
if (!(guard.manager instanceof ConnectionManager)) throw new Error('there are two copies');
guard.attach(server, webSocketServer);
server.listen(0, '127.0.0.1', async () => {
  await tryServer(server.address().port);
  process.exit();
});
