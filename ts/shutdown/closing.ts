/** The closes of WebSockets, spread over a window, so that not all clients are back at once. */
import type { TimerManager } from '../timers/manager.js';
import { deferred } from './deadline.js';
import type { Plan } from './options.js';
import type { Drainable, ShutdownSocket, SocketWatcher } from './drainable.js';
import type { ShutdownResult } from './result.js';

/** Closes in one turn of the loop. */
const CLOSE_BATCH = 256;
const CLOSE_STEP_MS = 5;

/** Sockets on their way out. */
export interface Closing {
  /** Resolves when all are gone. */
  readonly done: Promise<void>;
  /** Begins no more closes. */
  stop(): void;
  /** Looks no longer; tells how they went. */
  end(): ShutdownResult['websocketsClosed'];
}

/**
 * Closes the open sockets one after the other over the window, and at once those that open meanwhile.
 * @param attempt runs what may throw, under a name
 */
export function closeSockets(
  parts: readonly Drainable[],
  plan: Plan,
  timers: TimerManager,
  attempt: <T>(name: string, step: () => T) => T | undefined,
): Closing {
  let acknowledged = 0;
  let forced = 0;
  const waiting = new Set<ShutdownSocket>();
  /** Those that were told to go: who leaves before that has not been closed by us. */
  const told = new Set<ShutdownSocket>();
  let isStopped = false;
  const { promise: done, resolve } = deferred<void>();
  const bound = (socket: ShutdownSocket): void => {
    timers.setTimeout(() => {
      if (socket.state === 'open' || socket.state === 'closing')
        attempt('terminate', () => socket.terminate());
    }, plan.closeTimeoutMs);
  };
  const close = (socket: ShutdownSocket): void => {
    if (!waiting.has(socket)) return;
    told.add(socket);
    attempt('close', () => socket.close(plan.closeCode, plan.closeReason));
    if (waiting.has(socket)) bound(socket);
  };
  const watcher: SocketWatcher = {
    opened: (socket) => {
      waiting.add(socket);
      // Its own handler first: it is opening.
      queueMicrotask(() => close(socket));
    },
    gone: (socket) => {
      if (!waiting.delete(socket)) return;
      if (told.delete(socket)) {
        if (socket.state === 'acknowledged') acknowledged++;
        else forced++;
      }
      if (waiting.size === 0) resolve();
    },
  };
  const queue: ShutdownSocket[] = [];
  const watches = parts.flatMap((part) => {
    for (const socket of attempt(`${part.name}.sockets`, () => part.sockets?.()) ?? [])
      queue.push(socket);
    return attempt(`${part.name}.watchSockets`, () => part.watchSockets?.(watcher)) ?? [];
  });
  for (const socket of queue) waiting.add(socket);
  shuffle(queue);
  const total = queue.length;
  const quarter = Math.floor(plan.deadlineMs / 4);
  const windowMs = plan.drainWindowMs ?? Math.min(total * CLOSE_STEP_MS, 5000, quarter);
  const startMs = timers.driver.now();
  // The n-th goes at a random moment of the n-th of `total` equal parts of the window.
  const step = windowMs / Math.max(1, total);
  let next = Math.random();
  const closeDue = (): void => {
    if (isStopped) return;
    const elapsed = timers.driver.now() - startMs;
    for (
      let closed = 0;
      queue.length > 0 && closed < CLOSE_BATCH && next * step <= elapsed;
      closed++
    ) {
      next = total - queue.length + 1 + Math.random();
      close(queue.pop()!);
    }
    if (queue.length > 0)
      timers.setTimeout(closeDue, Math.max(1, next * step - (timers.driver.now() - startMs)));
    else if (waiting.size === 0) resolve();
  };
  closeDue();
  return {
    done,
    stop: () => void (isStopped = true),
    end: () => {
      for (const unwatch of watches) unwatch();
      return { acknowledged, forced: forced + waiting.size };
    },
  };
}

function shuffle<T>(list: T[]): void {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(Math.random() * (i + 1));
    [list[i], list[j]] = [list[j]!, list[i]!];
  }
}
