/** A timer, as who set it holds it. */
import { type Action, type Driver, SLOTS_MAX } from './driver.js';

/** What a timer was made of; a fired timeout that is refreshed is made of it again. @internal */
export interface Recipe {
  readonly action: Action;
  readonly args: unknown[] | undefined;
  readonly name: string | undefined;
  readonly overlap: 'allow' | 'skip' | 'queue';
  readonly signal: AbortSignal | undefined;
}

/** What a handle needs of the manager that armed its timer. @internal */
export interface TimerOwner {
  readonly driver: Driver;
  isOpen(): boolean;
  /** Arms a timer and returns its slot. */
  arm(
    kind: 'timeout' | 'interval',
    recipe: Recipe | Action,
    delayMs: number,
    isRefed: boolean,
  ): number;
}

/** A timer; works wherever the host's `Timeout` does. Nothing is lost by dropping it: the timer goes on. */
export class TimerHandle {
  readonly #owner: TimerOwner;
  /** Its kind. */
  readonly kind: 'timeout' | 'interval';
  #recipe: Recipe | Action;
  readonly #delayMs: number;
  /** Its place; generation 0 for one that never was armed. */
  #slot: number;
  #generation: number;
  #isRefed: boolean;
  #isCleared = false;

  /** @internal */
  constructor(
    owner: TimerOwner,
    kind: 'timeout' | 'interval',
    recipe: Recipe | Action,
    delayMs: number,
    slot: number,
    isRefed: boolean,
  ) {
    this.#owner = owner;
    this.kind = kind;
    this.#recipe = recipe;
    this.#delayMs = delayMs;
    this.#slot = slot;
    this.#generation = slot < 0 ? 0 : owner.driver.generation(slot);
    this.#isRefed = isRefed;
  }

  /** Neither a copy nor a Proxy passes. @internal */
  static is(value: unknown): value is TimerHandle {
    return typeof value === 'object' && value !== null && #slot in value;
  }

  /** Its name, if it was given one. */
  get name(): string | undefined {
    return typeof this.#recipe === 'function' ? undefined : this.#recipe.name;
  }

  /** Lets the timer hold the process. */
  ref(): this {
    this.#isRefed = true;
    this.#owner.driver.setRefed(this.#slot, this.#generation, true);
    return this;
  }

  /** Lets the process end while the timer is pending. */
  unref(): this {
    this.#isRefed = false;
    this.#owner.driver.setRefed(this.#slot, this.#generation, false);
    return this;
  }

  /** Whether the timer holds the process. */
  hasRef(): boolean {
    return this.#isRefed;
  }

  /** Starts the delay anew; a timeout that has fired fires again. */
  refresh(): this {
    if (this.#owner.driver.refresh(this.#slot, this.#generation)) return this;
    const isAborted = typeof this.#recipe !== 'function' && this.#recipe.signal?.aborted === true;
    if (this.#generation !== 0 && !this.#isCleared && !isAborted && this.#owner.isOpen()) {
      this.#slot = this.#owner.arm(this.kind, this.#recipe, this.#delayMs, this.#isRefed);
      this.#generation = this.#owner.driver.generation(this.#slot);
    }
    return this;
  }

  /** Clears the timer. */
  close(): this {
    this.#isCleared = true;
    this.#owner.driver.remove(this.#slot, this.#generation);
    return this;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** The timer's number, which `clearTimeout` takes too. */
  [Symbol.toPrimitive](): number {
    return this.#generation * SLOTS_MAX + Math.max(0, this.#slot);
  }
}
