import { control, options, port } from '../lib/control.mjs';
//#region example
import { createServer } from 'node:http';
import { Server } from 'socket.io';
import { portcullis } from 'portcullis/socket.io';

const guard = portcullis(options);
const server = createServer(guard.request((_request, response) => response.end('hello')));
const io = new Server(server);
guard.attach(io);
io.on('connection', (socket) => {
  socket.on('echo', (data, answer) => answer(data));
});
server.listen(port);
//#endregion
await control(guard, server);
