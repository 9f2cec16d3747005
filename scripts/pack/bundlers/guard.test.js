// Jest without ECMAScript modules, as NestJS sets it up: every import is a `require`.
const { createServer } = require('node:http');
const { connect } = require('node:net');
const { ConnectionManager, PortcullisError, TimerManager, scanJson } = require('portcullis');
const { FakeSocket, ManualClock } = require('portcullis/testing');
const { portcullis } = require('portcullis/ws');
const { WebSocketServer } = require('ws');

test('a manager refuses', () => {
  const timers = new TimerManager({ clock: new ManualClock() });
  const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, { timers });
  expect(manager.addConnection('one', new FakeSocket(), '203.0.113.1').success).toBe(true);
  expect(manager.addConnection('two', new FakeSocket(), '203.0.113.1').code).toBe('ip_limit');
  expect(() => new ConnectionManager({ maxConnectionsPerIp: -1 }, { timers })).toThrow(
    PortcullisError,
  );
  expect(scanJson('{"a":[1,2').success).toBe(false);
  manager.close();
  timers.close();
});

test('a server admits and refuses', async () => {
  const server = createServer();
  const webSocketServer = new WebSocketServer({ noServer: true });
  const guard = portcullis({ limits: { maxConnectionsPerIp: 1 } });
  guard.attach(server, webSocketServer);
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const sockets = [];
  const statusOf = () =>
    new Promise((resolve) => {
      const socket = connect(server.address().port, '127.0.0.1');
      sockets.push(socket);
      socket.once('data', (data) => resolve(data.toString('latin1').split(' ')[1]));
      socket.write(
        'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n',
      );
    });
  expect(await statusOf()).toBe('101');
  expect(await statusOf()).toBe('429');
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  guard.manager.close();
});

test('a registry of modules that was reset hands the first classes on', () => {
  jest.resetModules();
  const again = require('portcullis');
  expect(again).not.toBe(undefined);
  expect(again.ConnectionManager).toBe(ConnectionManager);
  expect(new again.TimerManager()).toBeInstanceOf(TimerManager);
});
