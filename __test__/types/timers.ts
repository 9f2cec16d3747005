// Compiled, not run: with the types of Bun, whose functions ignore a handle, it is no timer of the
// host.
import { type TimerHandle, TimerManager } from 'portcullis';

type IsTaken<F extends (timer: never) => void> =
  TimerHandle extends Exclude<Parameters<F>[0], undefined> ? true : false;
export const isTimer: TimerHandle extends Timer ? true : false = false;
export const isTimeout: TimerHandle extends NodeJS.Timeout ? true : false = false;
export const isTaken: IsTaken<typeof clearTimeout> | IsTaken<typeof clearInterval> = false;

const timers = new TimerManager();
timers.clearInterval(
  timers.setInterval(function () {
    timers.clearInterval(this);
  }, 1),
);
