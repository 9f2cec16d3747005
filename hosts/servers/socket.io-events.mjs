// Events of the Socket.IO servers, and the options of their engines.
const {
  pingInterval = 25_000,
  pingTimeout = 20_000,
  ...rest
} = JSON.parse(process.env.ENGINE_OPTIONS ?? '{}');
export const engineOptions = { pingInterval, pingTimeout, ...rest };

/**
 * @param {import('../../dist/index.js').ManagedConnection | undefined} connection
 */
export const figuresOf = (connection) => [
  connection?.messageCount,
  connection?.bytesReceived,
  connection?.bytesSent,
  connection?.ip,
  connection?.userId,
];

/**
 * Answers `echo`, `figures`, `end`, `cut` and `flood` of every client.
 * @param {import('socket.io').Server} io
 * @param {(socket: import('socket.io').Socket) => unknown} figures
 */
export function announce(io, figures) {
  io.on('connection', (socket) => {
    socket.on('echo', (data, answer) => answer(data));
    socket.on('figures', (answer) => answer(figures(socket), socket.conn.transport.name));
    socket.on('end', () => socket.disconnect(true));
    socket.on('cut', () => socket.conn.close());
    socket.on('flood', () => {
      for (let i = 0; i < 64; i++) socket.emit('data', 'x'.repeat(2 ** 18));
    });
    socket.on('disconnect', (reason) => console.log(`disconnect ${reason}`));
  });
}
