// Compiled, not run: options of routes, and the names that handlers see.
import { treaty } from '@elysiajs/eden';
import { Elysia } from 'elysia';
import { type ManagedConnection, type TokenClaims, TokenVerifier } from 'portcullis';
import { portcullis as socketIoGuard } from 'portcullis/socket.io';
import { portcullis as wsGuard } from 'portcullis/ws';
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

// The type of the claims is that of the verifier.
interface Claims extends TokenClaims {
  readonly tenant: string;
}
const typed = new TokenVerifier<Claims>({ algorithms: ['RS256'], jwks: { keys: [] } });
export const ofTenant = new Elysia()
  .use(portcullis({ limits: {}, auth: { verifier: typed, cookie: 'session' } }))
  .ws('/ws', {
    async message(ws) {
      const tenant: string | undefined = ws.data.connection?.claims?.tenant;
      const refreshed = await ws.data.connection?.refreshToken('');
      const next: string = refreshed?.success === true ? refreshed.claims.tenant : '';
      // @ts-expect-error a claim of another type
      const wrong: number | undefined = ws.data.connection?.claims?.tenant;
      ws.send([tenant, next, wrong]);
    },
  })
  .get('/me', ({ claims }) => claims?.tenant ?? 'nobody', { portcullis: { requireToken: true } });
const tenants = treaty<typeof ofTenant>('localhost');
export const seenTenant = async (): Promise<string | null> => (await tenants.me.get()).data;
export const untyped = new Elysia()
  .use(portcullis({ limits: {}, auth: new TokenVerifier({ algorithms: ['RS256'] }) }))
  .get('/', ({ claims, connection }): unknown[] => [
    claims?.sub,
    claims?.['x'],
    connection?.claims?.iss,
  ]);
const hooks = {
  limits: {},
  auth: {
    verifier: typed,
    onTokenEnd: ({ claims }: ManagedConnection) => void claims?.['tenant'],
  },
};
wsGuard(hooks);
wsGuard({ limits: {}, auth: typed, onDrain: ({ claims }) => void claims?.tenant.length });
socketIoGuard({
  limits: {},
  auth: { verifier: typed, onTokenEnd: ({ claims }) => void claims?.tenant.length },
});
// An application may have claims of its own.
export const ownClaims = new Elysia()
  .use(portcullis({ limits: {} }))
  .derive(() => ({ claims: 5 }))
  .get('/', ({ claims }) => claims + 1);
