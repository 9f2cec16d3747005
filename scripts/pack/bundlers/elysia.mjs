// A guarded Elysia application. It starts, tries itself and ends.
import { Elysia } from 'elysia';
import { portcullis } from 'portcullis/elysia';
import { tryServer } from './client.cjs';

const app = new Elysia().use(portcullis({ limits: { maxConnectionsPerIp: 1 } })).ws('/', {});
app.listen({ port: 0, hostname: '127.0.0.1' });
await tryServer(app.server.port);
process.exit();
