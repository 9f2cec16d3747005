import {
  ArgumentTypeError,
  outOfRange,
  PortcullisError,
  describe,
  wrongType,
} from '../base/errors.js';
import { didYouMean, knownOptions, wholeNumber } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import { resolveTimers } from '../timers/ownership.js';
import type {
  ChainSnapshot,
  CompiledChain,
  LayerSnapshot,
  MiddlewareChainOptions,
  MiddlewareContext,
  MiddlewareFunction,
  MiddlewareItem,
  MiddlewareObject,
  StrayError,
} from './contract.js';
import { Figures } from './figures.js';
import * as figure from './figures.js';
import { Breaker, hopped, netted, optional, type Step, timed } from './layers.js';
import { awaitsItsNext } from './proof.js';
import { runner, type Runner, type Sampler } from './run.js';

const ITEM_OPTIONS = [
  'name',
  'middleware',
  'priority',
  'enabled',
  'timeoutMs',
  'optional',
  'breaker',
] as const;
const DELAY_MAX_MS = 2 ** 31 - 1;
const WARM_UP_RUNS = 64;

const OPTIONS = ['name', 'timers', 'timing', 'sampleEvery', 'onError'] as const;

/** Compiled chains: they listen to their final next, so as layers they need no net. */
const compiledChains = new WeakSet<object>();

/** What an item is made of, whatever its types. */
interface Source {
  readonly name: string;
  readonly middleware: Step | { middleware(): Step; getConfigHash?(): unknown };
  readonly priority?: number | undefined;
  readonly enabled?: boolean | undefined;
  readonly timeoutMs?: number | undefined;
  readonly optional?: boolean | undefined;
  readonly breaker?:
    | { readonly failures?: number | undefined; readonly cooldownMs?: number | undefined }
    | undefined;
}

/** An item of the chain, checked. Never changed: a change makes another one. */
interface Entry {
  readonly name: string;
  /** The caller's own item, and what it said when it was read: it is seen when it changes. */
  readonly source: Source;
  readonly seen: Pick<Source, 'name' | 'middleware' | 'priority' | 'enabled'>;
  readonly middleware: Source['middleware'];
  readonly priority: number;
  readonly isEnabled: boolean;
  readonly timeoutMs: number | undefined;
  readonly breaker: Breaker | undefined;
  readonly figures: Figures;
  /** The layer itself, once it was compiled, and the hash it was made with. */
  readonly made: { readonly step: Step; readonly hash: unknown } | undefined;
}

interface Compiled {
  readonly run: Runner;
  readonly entries: readonly Entry[];
  /** The items and what they said, in one place each: it is read at every `execute()`. */
  readonly said: readonly (Entry['seen'] & { readonly source: Source })[];
  /** Those that are asked for their configuration at every `execute()`. */
  readonly hashed: readonly Entry[];
}

/**
 * A chain of layers, koa's onion: each does its part and calls `next` for the rest. It is compiled
 * once per configuration; runs that are under way finish on the chain they began with.
 *
 * `In` is the context a run begins with, `Out` what the layers make of it, `R` what a run returns.
 *
 * @example
 * const chain = new PerformantMiddlewareChain<{ path: string }>([], { timers })
 *   .add<{ user: string }>({ name: 'auth', priority: 10, middleware: (context, next) => ((context.user = 'ada'), next()) })
 *   .add({ name: 'log', middleware: async (context, next) => { await next(); console.log(context.user, context.path); } });
 * await chain.execute()({ path: '/' }, async (context) => respond(context.user));
 */
export class PerformantMiddlewareChain<
  In extends object = MiddlewareContext,
  Out extends object = In,
  R = void,
> {
  readonly #timers: TimerManager;
  /** Whether `close()` closes `#timers` too. */
  readonly #ownsTimers: boolean;
  /** Holds the timers of layers with `timeoutMs`; made for the first of them. */
  #layerTimers: TimerManager | undefined;
  #isClosed = false;
  readonly #name: string;
  readonly #timing: 'off' | 'sampled' | 'always';
  readonly #sampler: Sampler;
  readonly #onError: MiddlewareChainOptions['onError'];
  readonly #warned = new Set<string>();
  #entries: readonly Entry[];
  #compiled: Compiled | undefined;
  #version = 1;

  /**
   * @param items the layers; neither the array nor the items are changed
   * @param options see `MiddlewareChainOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION or ERR_DUPLICATE_NAME, naming the item
   */
  constructor(
    items: readonly MiddlewareItem<NoInfer<In>, NoInfer<R>>[],
    options?: MiddlewareChainOptions,
  );
  /**
   * The same, with the manager as an argument in the place of the option `timers`.
   *
   * @param items the layers; neither the array nor the items are changed
   * @param timerManager its clock times the layers, its timers end them
   * @param options see `MiddlewareChainOptions`
   * @throws as above; ERR_INVALID_ARG_TYPE also if `options.timers` is given too
   */
  constructor(
    items: readonly MiddlewareItem<NoInfer<In>, NoInfer<R>>[],
    timerManager: TimerManager,
    options?: Omit<MiddlewareChainOptions, 'timers'>,
  );
  constructor(
    items: readonly MiddlewareItem<NoInfer<In>, NoInfer<R>>[],
    timersOrOptions?: TimerManager | MiddlewareChainOptions,
    positionalOptions?: MiddlewareChainOptions,
  ) {
    if (!Array.isArray(items)) throw wrongType('items', items, 'an array of { name, middleware }');
    const { timers, isOwn, options } = resolveTimers(
      timersOrOptions,
      positionalOptions,
      'middleware',
    );
    knownOptions('PerformantMiddlewareChain', options, OPTIONS);
    const { name = 'middleware', timing = 'sampled', onError } = options;
    if (typeof name !== 'string') throw wrongType('name', name, 'a string');
    if (timing !== 'off' && timing !== 'sampled' && timing !== 'always')
      throw outOfRange('timing', timing, "'off', 'sampled' or 'always'");
    if (onError !== undefined && typeof onError !== 'function')
      throw wrongType('onError', onError, 'a function');
    const sampleEvery = wholeNumber('sampleEvery', options.sampleEvery, 1, 1e6, 64);
    this.#timers = timers;
    this.#ownsTimers = isOwn;
    this.#name = name;
    this.#timing = timing;
    this.#onError = onError;
    this.#sampler = {
      every: timing === 'off' ? 0 : timing === 'always' ? 1 : sampleEvery,
      left: 1,
      warmUp: WARM_UP_RUNS,
    };
    this.#entries = unique(
      Array.from(items as readonly unknown[], (item, index) => entryOf(item, `items[${index}]`)),
    );
  }

  /** Goes up with every change of the chain. */
  get version(): number {
    return this.#version;
  }

  /**
   * The compiled chain: the same function while nothing has changed. It is a layer itself.
   * @throws what a `middleware()` of an item throws; ERR_INVALID_ARG_TYPE if it returns no function
   */
  execute(): CompiledChain<In, Out, R> {
    this.#checkOpen();
    const compiled = this.#compiled;
    const run = compiled !== undefined && isCurrent(compiled) ? compiled.run : this.#compile();
    return run as CompiledChain<In, Out, R>;
  }

  /** Compiles the chain anew at the next `execute()`, asking objects for their layers again. */
  invalidateCache(): void {
    this.#checkOpen();
    this.#entries = this.#entries.map((entry) => ({ ...entry, made: undefined }));
    this.#compiled = undefined;
    this.#version++;
  }

  /**
   * Adds a layer, behind those of its priority. `Added` is what it adds to the context, for the layers
   * added after it and the final next: give those no higher priority.
   */
  add<Added extends object = object>(
    item: MiddlewareItem<Out & Partial<Added>, R>,
  ): PerformantMiddlewareChain<In, Out & Added, R> {
    this.#checkOpen();
    this.#swap(unique([...this.#entries, entryOf(item, 'item')]));
    return this as unknown as PerformantMiddlewareChain<In, Out & Added, R>;
  }

  /** @returns whether there was such a layer */
  remove(name: string): boolean {
    this.#checkOpen();
    if (typeof name !== 'string') throw wrongType('name', name, 'a string');
    const left = this.#entries.filter((entry) => entry.name !== name);
    if (left.length === this.#entries.length) return false;
    this.#swap(left);
    return true;
  }

  /** @throws ERR_UNKNOWN_NAME */
  enable(name: string): this {
    return this.#change(name, (entry) => ({ ...entry, isEnabled: true }));
  }

  /** @throws ERR_UNKNOWN_NAME */
  disable(name: string): this {
    return this.#change(name, (entry) => ({ ...entry, isEnabled: false }));
  }

  /**
   * Exchanges what a layer does; its priority and options stay, its figures begin anew.
   * @throws ERR_UNKNOWN_NAME; ERR_INVALID_ARG_TYPE if `middleware` is neither a function nor an object with `middleware()`
   */
  replace(name: string, middleware: MiddlewareFunction<Out, R> | MiddlewareObject<Out, R>): this {
    const checked = middlewareOf(middleware, `middleware ${describe(name)}`);
    return this.#change(name, (entry) => ({
      ...entry,
      ...renewed(entry),
      middleware: checked,
      made: undefined,
    }));
  }

  /** @throws ERR_UNKNOWN_NAME; ERR_OUT_OF_RANGE if `priority` is not finite */
  setPriority(name: string, priority: number): this {
    const checked = priorityOf(priority, 'priority');
    return this.#change(name, (entry) => ({ ...entry, priority: checked }));
  }

  /**
   * Milliseconds that each layer takes of its own, without `next()`, as a moving average over the
   * observed runs, by name. Layers that were not observed yet are left out.
   */
  getPerformanceMetrics(): Record<string, number> {
    return Object.fromEntries(
      this.#entries.flatMap(({ name, figures }) =>
        figures.self === undefined ? [] : [[name, figures.self.emaMs]],
      ),
    );
  }

  /** Returns the figures of the chain and of its layers. */
  snapshot(): ChainSnapshot {
    return {
      name: this.#name,
      version: this.#version,
      timing: this.#timing,
      layers: sorted(this.#entries).map((entry) => this.#snapshotOf(entry)),
    };
  }

  #snapshotOf({ name, priority, isEnabled, figures, breaker }: Entry): LayerSnapshot {
    const of = (place: number): number => figures.counters[place]!;
    return {
      name,
      priority,
      enabled: isEnabled,
      count: of(figure.COUNT),
      observed: of(figure.OBSERVED),
      errors: of(figure.ERRORS),
      inFlight: of(figure.IN_FLIGHT),
      detached: of(figure.DETACHED),
      self: figures.self?.snapshot() ?? null,
      total: figures.total?.snapshot() ?? null,
      timeouts: of(figure.TIMEOUTS),
      lateSettles: of(figure.LATE_SETTLES),
      strayErrors: of(figure.STRAY_ERRORS),
      optional:
        breaker === undefined
          ? null
          : {
              breaker: breaker.state(this.#timers.driver.now()),
              failures: of(figure.FAILURES),
              skipped: of(figure.SKIPPED),
            },
    };
  }

  /**
   * Ends the chain: `execute()` and every change throw ERR_CLOSED from now on. The timers of its
   * layers are cleared, and a manager of its own is closed. A run of a compiled chain ends
   * normally, without timeouts. May be called again.
   */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#layerTimers?.close();
    if (this.#ownsTimers) this.#timers.close();
  }

  /** Calls `close()`, for `using`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #checkOpen(): void {
    if (this.#isClosed)
      throw new PortcullisError(
        'ERR_CLOSED',
        `the middleware chain ${describe(this.#name)} is closed`,
      );
  }

  #change(name: string, change: (entry: Entry) => Entry): this {
    this.#checkOpen();
    if (typeof name !== 'string') throw wrongType('name', name, 'a string');
    const names = this.#entries.map((entry) => entry.name);
    if (!names.includes(name)) {
      throw new PortcullisError(
        'ERR_UNKNOWN_NAME',
        `the chain has no middleware ${describe(name)}${didYouMean(name, names)}`,
        {
          field: 'name',
          value: describe(name),
          allowed: names.slice(0, 100).join(', '),
        },
      );
    }
    this.#swap(this.#entries.map((entry) => (entry.name === name ? change(entry) : entry)));
    return this;
  }

  /** All or nothing: a layer that cannot be made leaves the chain as it was. */
  #swap(entries: readonly Entry[]): void {
    this.#adopt(this.#compiledOf(entries, this.#version + 1));
  }

  #compile(): Runner {
    const entries = unique(this.#entries.map(reread));
    // The first compilation is no change.
    const isChange = this.#compiled !== undefined;
    return this.#adopt(this.#compiledOf(entries, this.#version + (isChange ? 1 : 0))).run;
  }

  #adopt(compiled: Compiled & { readonly version: number }): Compiled {
    this.#entries = compiled.entries;
    this.#compiled = compiled;
    this.#version = compiled.version;
    return compiled;
  }

  #compiledOf(given: readonly Entry[], version: number): Compiled & { readonly version: number } {
    const entries = given.map((entry) =>
      entry.isEnabled && entry.made === undefined ? { ...entry, made: madeOf(entry) } : entry,
    );
    const enabled = sorted(entries).filter((entry) => entry.isEnabled);
    const run = runner({
      chain: this.#name,
      version,
      layers: enabled.map((entry, index) => ({
        name: entry.name,
        label: labelOf(entry),
        figures: entry.figures,
        step: this.#stepOf(entry, index),
      })),
      sampler: this.#sampler,
      now: () => this.#timers.driver.now(),
      hasSignal: enabled.some(
        (entry) => entry.timeoutMs !== undefined && entry.breaker === undefined,
      ),
    });
    compiledChains.add(run);
    return {
      run,
      entries,
      said: entries.map(({ source, seen }) => ({ source, ...seen })),
      hashed: enabled.filter((entry) => hashable(entry.middleware)),
      version,
    };
  }

  #stepOf(entry: Entry, index: number): Step {
    const { timeoutMs, breaker, made, name } = entry;
    if (made === undefined)
      throw new PortcullisError('ERR_INTERNAL', `${labelOf(entry)} was not made`);
    const owner = {
      label: labelOf(entry),
      figures: entry.figures,
      stray: (error: unknown, kind: StrayError['kind']) =>
        this.#stray(error, { layer: name, kind }),
    };
    let step = made.step;
    if (!compiledChains.has(step) && !awaitsItsNext(step)) step = netted(step, owner);
    if (timeoutMs !== undefined)
      step = timed(step, owner, this.#timersOfLayers(), timeoutMs, breaker !== undefined);
    if (breaker !== undefined) step = optional(step, owner, breaker, this.#timers);
    return hopped(step, index);
  }

  /** A scope, so that `close()` clears these timers and no others of the manager. */
  #timersOfLayers(): TimerManager {
    this.#layerTimers ??= this.#timers.scope(this.#name);
    return this.#layerTimers;
  }

  #stray(error: unknown, stray: StrayError): void {
    try {
      if (this.#onError !== undefined) return void this.#onError(error, stray);
    } catch {
      // Told below: that the handler fails must not fail the run.
    }
    const { layer, kind } = stray;
    const key = `${kind} ${layer}`;
    if (this.#warned.has(key)) return;
    this.#warned.add(key);
    const what = {
      detached: 'did not wait for its next(), which failed',
      late: 'failed after its timeout',
      optional: 'failed and was left out',
    }[kind];
    // The error's text may hold what is not for logs; `onError` gets all of it.
    process.emitWarning(
      `${this.#name}: middleware ${describe(layer)} ${what} (${error instanceof Error ? error.name : typeof error}); see onError`,
      {
        type: 'PortcullisWarning',
        code: `PORTCULLIS_${kind.toUpperCase()}_ERROR`,
      },
    );
  }
}

/** The same class. */
export { PerformantMiddlewareChain as MiddlewareChain };

const labelOf = ({ name }: { readonly name: string }): string => `middleware ${describe(name)}`;

/** The sort is stable: ties run in the order given. */
const sorted = (entries: readonly Entry[]): Entry[] =>
  entries.toSorted((a, b) => b.priority - a.priority);

function hashable(
  middleware: Source['middleware'],
): middleware is { middleware(): Step; getConfigHash(): unknown } {
  return typeof middleware === 'object' && typeof middleware.getConfigHash === 'function';
}

/** Whether all items still say what they said; without an allocation. */
function isCurrent({ said, hashed }: Compiled): boolean {
  for (let at = 0; at < said.length; at++) {
    const { source, middleware, enabled, priority, name } = said[at]!;
    if (
      source.middleware !== middleware ||
      source.enabled !== enabled ||
      source.priority !== priority ||
      source.name !== name
    )
      return false;
  }
  for (let at = 0; at < hashed.length; at++) {
    const { middleware, made } = hashed[at]!;
    if (hashable(middleware) && middleware.getConfigHash() !== made?.hash) return false;
  }
  return true;
}

/** The entry as its source is now: what changed there counts, what did not stays as the chain has it. */
function reread(entry: Entry): Entry {
  const { source, seen } = entry;
  const hasChanged = source.middleware !== seen.middleware;
  const isStale =
    hashable(entry.middleware) &&
    entry.made !== undefined &&
    entry.middleware.getConfigHash() !== entry.made.hash;
  const isSame =
    !hasChanged &&
    !isStale &&
    source.enabled === seen.enabled &&
    source.priority === seen.priority &&
    source.name === seen.name;
  if (isSame) return entry;
  const now = entryOf(source, labelOf(entry));
  return {
    ...entry,
    ...(hasChanged || isStale ? { ...renewed(entry), made: undefined } : {}),
    name: now.name,
    seen: now.seen,
    middleware: hasChanged ? now.middleware : entry.middleware,
    priority: source.priority === seen.priority ? entry.priority : now.priority,
    isEnabled: source.enabled === seen.enabled ? entry.isEnabled : now.isEnabled,
  };
}

/** Another function has figures of its own, and another chance. */
function renewed(entry: Entry): Pick<Entry, 'figures' | 'breaker'> {
  return { figures: new Figures(), breaker: breakerOf(entry.source, labelOf(entry)) };
}

function madeOf(entry: Entry): { readonly step: Step; readonly hash: unknown } {
  const { middleware } = entry;
  if (typeof middleware === 'function') return { step: middleware, hash: undefined };
  const hash = hashable(middleware) ? middleware.getConfigHash() : undefined;
  const step: unknown = middleware.middleware();
  if (typeof step !== 'function')
    throw wrongType(`${labelOf(entry)}.middleware()`, step, 'a function when called');
  return { step: step as Step, hash };
}

function unique(entries: readonly Entry[]): readonly Entry[] {
  const names = new Set<string>();
  for (const { name } of entries) {
    if (names.has(name)) {
      throw new PortcullisError(
        'ERR_DUPLICATE_NAME',
        `two middlewares are named ${describe(name)}`,
        {
          field: 'name',
          value: describe(name),
          allowed: 'a name of its own',
        },
      );
    }
    names.add(name);
  }
  return entries;
}

function entryOf(item: unknown, place: string): Entry {
  if (typeof item !== 'object' || item === null)
    throw wrongType(place, item, 'an object { name, middleware }');
  const source = item as Source;
  const { name, middleware, priority, enabled } = source;
  if (typeof name !== 'string' || name === '')
    throw wrongType(`${place}.name`, name, 'a non-empty string');
  const label = `middleware ${describe(name)}`;
  knownOptions(label, item, ITEM_OPTIONS);
  if (enabled !== undefined && typeof enabled !== 'boolean')
    throw wrongType(`${label}.enabled`, enabled, 'true or false');
  return {
    name,
    source,
    seen: { name, middleware, priority, enabled },
    middleware: middlewareOf(middleware, label),
    priority: priorityOf(priority ?? 0, `${label}.priority`),
    isEnabled: enabled ?? true,
    timeoutMs:
      source.timeoutMs === undefined
        ? undefined
        : wholeNumber(`${label}.timeoutMs`, source.timeoutMs, 1, DELAY_MAX_MS),
    breaker: breakerOf(source, label),
    figures: new Figures(),
    made: undefined,
  };
}

function middlewareOf(middleware: unknown, label: string): Source['middleware'] {
  const isObject =
    typeof middleware === 'object' &&
    middleware !== null &&
    typeof (middleware as { middleware?: unknown }).middleware === 'function';
  if (!isObject && typeof middleware !== 'function')
    throw wrongType(
      `${label}.middleware`,
      middleware,
      'a function (context, next) or an object with middleware()',
    );
  return middleware as Source['middleware'];
}

function priorityOf(priority: unknown, field: string): number {
  if (typeof priority !== 'number') throw wrongType(field, priority, 'a finite number');
  if (!Number.isFinite(priority)) throw outOfRange(field, priority, 'a finite number');
  return priority;
}

function breakerOf({ optional: isOptional, breaker }: Source, label: string): Breaker | undefined {
  if (isOptional !== undefined && typeof isOptional !== 'boolean')
    throw wrongType(`${label}.optional`, isOptional, 'true or false');
  if (breaker !== undefined) {
    if (typeof breaker !== 'object' || breaker === null)
      throw wrongType(`${label}.breaker`, breaker, 'an object');
    knownOptions(`${label}.breaker`, breaker, ['failures', 'cooldownMs']);
    if (isOptional !== true)
      throw new ArgumentTypeError('ERR_INVALID_ARG_TYPE', `${label}.breaker needs optional: true`, {
        field: `${label}.breaker`,
      });
  }
  if (isOptional !== true) return undefined;
  return new Breaker(
    wholeNumber(`${label}.breaker.failures`, breaker?.failures, 1, 1e6, 5),
    wholeNumber(`${label}.breaker.cooldownMs`, breaker?.cooldownMs, 1, DELAY_MAX_MS, 30_000),
  );
}
