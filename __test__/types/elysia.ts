// Compiled, not run: options of routes, and the names that handlers see.
import { treaty } from '@elysiajs/eden';
import { Elysia } from 'elysia';
import { type ManagedConnection } from 'portcullis';
import { portcullis } from 'portcullis/elysia';
const app = new Elysia()
  .use(portcullis({ limits: {} }))
  .ws('/ws', {
    portcullis: { maxConnections: 10, connectRate: { limit: 1, windowMs: 1000 } },
    message(ws, message) {
      const connection: ManagedConnection | undefined = ws.data.connection;
      const user: string | undefined = ws.data.user;
      ws.send([connection?.id, user, message]);
    },
  })
  .get('/me', ({ user, connection }) => ({ user, at: connection?.id }), {
    portcullis: { requireToken: true },
  })
  .get('/text', () => 'text' as const);
const client = treaty<typeof app>('localhost');
export async function seen() {
  const me = (await client.me.get()).data;
  const user: string | undefined = me?.user;
  const text: 'text' | null = (await client.text.get()).data;
  return [user, text];
}
const guarded = new Elysia().use(portcullis({ limits: {} }));
// @ts-expect-error a misspelt option of a route
guarded.get('/', () => '', { portcullis: { maxConnection: 1 } });
// An application may have a user of its own.
export const own = new Elysia()
  .use(portcullis({ limits: {} }))
  .derive(() => ({ user: { name: 'ann' } }))
  .get('/', ({ user }) => user.name);
export const other = new Elysia()
  .use(portcullis({ limits: {} }))
  .decorate('user', { name: 'ann' })
  .get('/', ({ user }) => user.name);
export const third = new Elysia()
  .decorate('user', { name: 'ann' })
  .use(portcullis({ limits: {} }))
  .get('/', ({ user }) => user.name);
