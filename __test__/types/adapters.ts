// Compiled, not run: what a user's program sees of the main entry and the subpaths together.
import { treaty } from '@elysiajs/eden';
import { Elysia, t } from 'elysia';
import { ConnectionManager, type ConnectionStats, type ManagedConnection, TimerManager, type TokenResult, TokenVerifier } from 'portcullis';
import { portcullis as bunGuard } from 'portcullis/bun';
import { connectionOf, portcullis } from 'portcullis/elysia';
import { ManualClock } from 'portcullis/testing';
import { portcullis as wsGuard } from 'portcullis/ws';

const timers = new TimerManager({ clock: new ManualClock() });
// Classes have private members: this compiles only if all entries speak of the same ones.
const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, timers);
export const ofWs: ConnectionManager = wsGuard({ manager }).manager;
const verifier = new TokenVerifier({ algorithms: ['RS256'], jwks: { url: 'https://issuer.example/jwks.json' } });
export const ofAuth: ConnectionManager = wsGuard({ limits: {}, auth: verifier }).manager;
export const ofBrowsers: ConnectionManager = bunGuard({ limits: {}, auth: { verifier, subprotocol: 'bearer' } }).manager;
export const roles = (result: TokenResult<{ roles: string[] }>): string[] => (result.ok ? result.claims.roles : [result.error.code]);
export const ofBun: ConnectionManager = bunGuard({ limits: {}, timers }).manager;

export const app = new Elysia()
  .use(portcullis({ manager, refuseWith: 'close', identify: (request) => request.headers.get('x-user') ?? undefined }))
  .ws('/ws/:room', {
    body: t.Object({ text: t.String() }),
    message(ws, message) {
      const text: string = message.text;
      const room: string = ws.data.params.room;
      const shared: ConnectionManager = ws.data.portcullis.manager;
      const connection: ManagedConnection | undefined = connectionOf(ws);
      ws.send({ text, room, shared: shared.getStats().totalConnections, mine: connection?.messageCount });
    },
  })
  .get('/stats', ({ portcullis }) => portcullis.manager.getStats())
  .get('/text', () => 'text' as const);

const client = treaty<typeof app>('localhost');
export async function seen(): Promise<void> {
  const text: 'text' | null = (await client.text.get()).data;
  const total: number | undefined = (await client.stats.get()).data?.totalConnections;
  client
    .ws({ room: 'one' })
    .subscribe()
    .send({ text: String(text) + total });
  // @ts-expect-error the route's body is still known
  client.ws({ room: 'one' }).subscribe().send({ txt: '' });
}
export const stats: ConnectionStats = manager.getStats();
// @ts-expect-error neither is a misspelt option
portcullis({ limit: {} });
