// The contestants on Bun, with Elysia. Arguments: CONTESTANT CONNECTIONS [PARTS TO LEAVE OUT]
import { Elysia } from 'elysia';
import { portcullis } from '../dist/elysia.js';
import { everything } from './everything.mjs';
import { LeastGuard } from './least.mjs';
import { NpmGuard } from './npm.mjs';
import { report } from './report.mjs';
import { answer, BAN_MS, limitsFor, REFUSAL, REFUSING_PATH } from './settings.mjs';
import { TwinGuard } from './twin.mjs';

type Message = Parameters<typeof answer>[0];
type Guard = NpmGuard | TwinGuard;

const [, , contestant, connections, ...without] = process.argv;
const limits = limitsFor(Number(connections));
const base = () =>
  new Elysia({ websocket: { maxPayloadLength: limits.messageBytes } }).get('/', () => 'hello');
const listen = (
  app: { listen(options: object): { server: { port?: number } | null } },
  seats: () => number,
  ban?: (address: string) => unknown,
): void => report(app.listen({ port: 0, hostname: '127.0.0.1' }).server?.port, seats, ban);

/**
 * Starts a server with a guard of its own, as a user would wire it: it admits clients before the
 * upgrade.
 */
function guardedBy(guard: Guard): void {
  const seats = new WeakMap<Request, object>();
  const enter = (request: Request, seat: { status?: number; text?: string }) => {
    if (seat.status !== undefined) return new Response(seat.text, { status: seat.status });
    seats.set(request, seat);
    return undefined;
  };
  const seatOf = (ws: { data: { request: Request } }) => seats.get(ws.data.request) as never;
  const app = base()
    .get('/metrics', () => ('metrics' in guard ? guard.metrics() : ''))
    .onBeforeHandle(({ request, server }) => {
      if (request.headers.get('upgrade') !== 'websocket') return undefined;
      const seat = guard.admit(
        server?.requestIP(request)?.address,
        request.headers.get('authorization') ?? undefined,
      );
      return seat instanceof Promise
        ? seat.then((given) => enter(request, given))
        : enter(request, seat);
    })
    .ws('/ws', {
      open: (ws) => guard.open(seatOf(ws), ws.raw),
      message(ws, message) {
        const startMs = performance.now();
        const seat = seatOf(ws);
        const respond = (isGood: boolean): void => {
          if (!isGood) return;
          const text = JSON.stringify(answer(message as Message));
          ws.send(text);
          guard.sent(seat, text.length, startMs);
        };
        const isGood = guard.received(seat, message as never);
        return isGood instanceof Promise ? isGood.then(respond) : respond(isGood);
      },
      close: (ws) => guard.leave(seatOf(ws)),
    });
  listen(app, () => guard.seats());
}

function bare(): void {
  let open = 0;
  listen(
    base()
      .ws('/ws', {
        open: () => void open++,
        message: (ws, message) => void ws.send(JSON.stringify(answer(message as Message))),
        close: () => void open--,
      })
      // Every client is refused: what a refusal costs without a guard.
      .get(REFUSING_PATH, () => new Response(REFUSAL, { status: 503 })),
    () => open,
  );
}

/** Starts a server with the least guard, wired with nothing that it could do without. */
function leastGuarded(): void {
  const SEAT = Symbol('seat');
  type Seat = Exclude<ReturnType<LeastGuard['admit']>, number>;
  type Seated = { [SEAT]: Seat };
  const guard = new LeastGuard(limits);
  const app = base()
    .onRequest(({ request, server }) => {
      const authorization = request.headers.get('authorization') ?? undefined;
      const seat = guard.admit(server?.requestIP(request)?.address, authorization);
      if (typeof seat === 'number') return new Response(REFUSAL, { status: seat });
      (request as unknown as Seated)[SEAT] = seat;
      return undefined;
    })
    .ws('/ws', {
      message: (ws, message) => void ws.send(JSON.stringify(answer(message as Message))),
      close: (ws) => guard.leave((ws.data.request as unknown as Seated)[SEAT]),
    });
  listen(app, () => guard.seats());
}

function everythingOn(): void {
  const guard = portcullis(everything(limits, without));
  const app = base()
    .use(guard)
    .ws('/ws', {
      message: (ws, message) => void ws.send(JSON.stringify(answer(message as Message))),
    });
  const { manager } = guard.decorator.portcullis;
  listen(
    app,
    () => manager.snapshot().totalConnections,
    (address) => manager.ban(address, BAN_MS),
  );
}

const make: Record<string, () => void> = {
  bare,
  least: leastGuarded,
  twin: () => guardedBy(new TwinGuard(limits)),
  npm: () => guardedBy(new NpmGuard(limits)),
  portcullis: everythingOn,
};
make[contestant ?? '']?.();
