import { describe, expect, it } from 'vitest';
import { TimerManager, resourceLimits } from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';

// Internal, so it has no declarations.
interface Gate {
  readonly active: number;
  stats(): { readonly refused: Readonly<Record<string, number>> };
}
const { RequestLimiter } = (await import('../dist/http/limiter.js' as string)) as {
  RequestLimiter: new (limits: unknown, timers: TimerManager) => Gate;
};
const { signalOf, unwatch, withinLimits } = (await import('../dist/http/fetch.js' as string)) as {
  signalOf(request: Request): AbortSignal;
  unwatch(request: Request): void;
  withinLimits(
    gate: Gate,
    request: Request,
    clientOf: () => string,
    handle: () => unknown,
  ): unknown;
};

function setUp(): { clock: ManualClock; gate: Gate } {
  const clock = new ManualClock();
  return {
    clock,
    gate: new RequestLimiter(
      resourceLimits({ requests: { timeoutMs: 1000 } }).requests,
      new TimerManager({ clock }),
    ),
  };
}

const address = (): string => '192.0.2.1';
const forever = (): Promise<never> => new Promise(() => undefined);

describe('the signal of a request', () => {
  it('aborts at its timeout, as `request.signal` and by `signalOf`', async () => {
    const { clock, gate } = setUp();
    const request = new Request('http://localhost/');
    const answer = withinLimits(gate, request, address, forever) as Promise<Response>;
    const signal = signalOf(request);
    expect([request.signal === signal, signalOf(request) === signal, signal.aborted]).toEqual([
      true,
      true,
      false,
    ]);
    clock.advance(1000);
    expect(signal.aborted).toBe(true);
    expect((signal.reason as Error).message).toBe('Request took too long');
    expect((await answer).status).toBe(503);
    expect([gate.active, gate.snapshot().refused]).toEqual([0, { handler_timeout: 1 }]);
  });

  it('counts its timeout from the admission; an answer at once needs no timer', () => {
    const clock = new ManualClock();
    const timers = new TimerManager({ clock });
    const { requests } = resourceLimits({ requests: { timeoutMs: 1000 } });
    const gate = new RequestLimiter(requests, timers);
    let named = -1;
    withinLimits(gate, new Request('http://localhost/'), address, () => {
      named = timers.snapshot().active;
      return new Response();
    });
    expect([named, timers.snapshot().active, gate.active]).toEqual([0, 0, 0]);
    const slow = new Request('http://localhost/');
    void withinLimits(gate, slow, address, () => {
      // A handler that works for most of its time before it waits.
      clock.advance(900);
      return forever();
    });
    clock.advance(99);
    expect(signalOf(slow).aborted).toBe(false);
    clock.advance(1);
    expect(signalOf(slow).aborted).toBe(true);
  });

  it('aborts when the client leaves', () => {
    const client = new AbortController();
    const request = new Request('http://localhost/', { signal: client.signal });
    void withinLimits(setUp().gate, request, address, forever);
    const signal = signalOf(request);
    client.abort();
    expect([signal.aborted, request.signal.aborted]).toEqual([true, true]);
  });

  it("is the host's own for an upgrade: a WebSocket keeps nothing of its request", async () => {
    const { clock, gate } = setUp();
    const upgrade = (): Request =>
      new Request('http://localhost/ws', { headers: { upgrade: 'websocket' } });
    const late = upgrade();
    const answer = withinLimits(gate, late, address, forever) as Promise<Response>;
    expect(Object.getOwnPropertyNames(late)).not.toContain('signal');
    expect(signalOf(late).aborted).toBe(false);
    clock.advance(1000);
    expect([signalOf(late).aborted, late.signal.aborted]).toEqual([true, false]);
    expect((await answer).status).toBe(503);
    const entered = upgrade();
    withinLimits(gate, entered, address, () => unwatch(entered));
    expect(signalOf(entered)).toBe(entered.signal);
    expect(gate.active).toBe(0);
  });
});
