import './runtime.js';
import type { Alarm, Clock } from './clock.js';
import { driverOf } from './driver.js';
import type { ManagedSocket } from './connection.js';
import { outOfRange } from './errors.js';

/**
 * A clock that stands still until it is told to go on.
 * @example
 * const clock = new ManualClock();
 * const timers = new TimerManager({ clock });
 * clock.advance(1000);
 */
export class ManualClock implements Clock {
  #nowMs = 0;
  #alarm: { wake: () => void; at: number } | undefined;

  now(): number {
    return this.#nowMs;
  }
  arm(wake: () => void, delayMs: number): Alarm {
    const alarm = { wake, at: this.#nowMs + delayMs };
    this.#alarm = alarm;
    return {
      cancel: () => {
        if (this.#alarm === alarm) this.#alarm = undefined;
      },
      ref: () => undefined,
      unref: () => undefined,
    };
  }
  soon(wake: () => void): void {
    this.arm(wake, 0);
  }
  identity(): unknown {
    return this;
  }
  checkpoint(): void {
    // The test's own turn: microtasks run when it awaits.
  }

  /** Moves on by `byMs` and runs what becomes due, each timer at its own time. */
  advance(byMs: number): void {
    if (typeof byMs !== 'number' || !(byMs >= 0) || byMs === Infinity) throw outOfRange('byMs', byMs, 'a number of at least 0');
    const until = this.#nowMs + byMs;
    while (this.#alarm !== undefined && this.#alarm.at <= until) this.#ring(this.#alarm);
    this.#nowMs = until;
  }

  /** Moves on to the next timer and runs it; `false` if there is none. */
  runNext(): boolean {
    const driver = driverOf(this);
    if (driver.next() === Infinity) return false;
    // An alarm may be early, when the next deadline is far off.
    while (this.#alarm !== undefined && this.#alarm.at < this.#nowMs + driver.next() - driver.now()) this.#ring(this.#alarm);
    if (this.#alarm !== undefined) this.#ring(this.#alarm);
    return true;
  }

  #ring(alarm: { wake: () => void; at: number }): void {
    this.#alarm = undefined;
    this.#nowMs = Math.max(this.#nowMs, alarm.at);
    alarm.wake();
  }
}

/** A socket that remembers what was done to it. */
export class FakeSocket implements ManagedSocket {
  readyState = 1;
  readonly closed: { readonly code: number | undefined; readonly reason: string | undefined }[] = [];
  readonly sent: unknown[] = [];
  terminated = false;

  close(code?: number, reason?: string): void {
    this.closed.push({ code, reason });
    this.readyState = 2;
  }
  send(data: unknown): void {
    this.sent.push(data);
  }
  terminate(): void {
    this.terminated = true;
    this.readyState = 3;
  }
}
