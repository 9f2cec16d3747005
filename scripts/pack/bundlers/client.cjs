// Clients of the servers that are bundled: they send a handshake by hand.
const { connect } = require('node:net');

/** Returns the status of the answer to a handshake; the connection stays open. */
function statusOf(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', reject);
    socket.once('data', (data) => resolve(data.toString('latin1').split(' ')[1]));
    const key = Buffer.alloc(16).toString('base64');
    socket.write(
      `GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${key}\r\n\r\n`,
    );
  });
}

/** Admits one client, has the second one refused, and prints both. */
exports.tryServer = async (port) => {
  console.log(`admitted ${await statusOf(port)}, refused ${await statusOf(port)}`);
};
