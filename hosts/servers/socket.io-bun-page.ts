import { control, options, port } from '../lib/control.mjs';
//#region example
import { Server as Engine } from '@socket.io/bun-engine';
import { Server } from 'socket.io';
import { portcullis } from 'portcullis/socket.io';

const guard = portcullis<Request>(options);
const io = new Server();
const engine = new Engine({ path: '/socket.io/' });
io.bind(engine);
guard.attach(io);
const server = Bun.serve({ port, ...engine.handler() });
//#endregion
await control(guard, server);
