/** The middleware chain: it keeps the items, compiles them, and returns their figures. */
import { describe, outOfRange, PortcullisError, wrongType } from '../base/errors.js';
import { isThenable } from '../base/hooks.js';
import { didYouMean, knownOptions, wholeNumber } from '../base/options.js';
import type { TimerManager } from '../timers/manager.js';
import { resolveTimers } from '../timers/ownership.js';
import { optional } from './breaker.js';
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
import * as figure from './figures.js';
import {
  isHashable,
  type Item,
  type ItemSource,
  itemOf,
  labelOf,
  middlewareOf,
  priorityOf,
  renewed,
  reread,
  unique,
  withLayer,
} from './item.js';
import {
  type LayerFunction,
  withDetachedErrors,
  withStackBreak,
  type WrappedLayer,
} from './layers.js';
import { awaitsItsNext } from './proof.js';
import { compile, type ChainFunction, type Sampler } from './run.js';
import { withTimeout } from './timeout.js';

const OPTIONS = ['name', 'timers', 'timing', 'sampleEvery', 'onError'] as const;
/** Observed runs of a new chain before sampling begins. */
const WARM_UP_RUNS = 64;

/**
 * Compiled chains. As layers they need no `withDetachedErrors`: they handle the promise of their
 * final next.
 */
const compiledChains = new WeakSet<object>();

/** A compiled state of the chain. */
interface Compiled {
  readonly version: number;
  readonly run: ChainFunction;
  readonly items: readonly Item[];
  /**
   * The caller's objects and their values as they were read. One flat array, because every
   * `execute()` compares them.
   */
  readonly watched: readonly (Item['lastRead'] & { readonly source: ItemSource })[];
  /** Enabled items with a `getConfigHash()`, which every `execute()` calls. */
  readonly hashed: readonly Item[];
}

/**
 * A chain of layers around a final function, as koa has it: each layer does its own work, and calls
 * `next` for the rest. The chain is compiled once per configuration. Runs under way finish on the
 * chain they began with.
 *
 * `In` is the context with which a run begins, `Out` the context after all layers, `R` the result
 * of a run.
 *
 * @example
 * const chain = new PerformantMiddlewareChain<{ path: string }>([], { timers })
 *   .add<{ user: string }>({
 *     name: 'auth',
 *     priority: 10,
 *     middleware: (context, next) => ((context.user = 'ada'), next()),
 *   })
 *   .add({
 *     name: 'log',
 *     middleware: async (context, next) => {
 *       await next();
 *       console.log(context.user, context.path);
 *     },
 *   });
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
  /**
   * Timers of the layers with `timeoutMs`: a scope, made for the first of them, so that `close()`
   * clears no others.
   */
  #layerTimers: TimerManager | undefined;
  readonly #name: string;
  readonly #timing: 'off' | 'sampled' | 'always';
  readonly #sampler: Sampler;
  readonly #onError: MiddlewareChainOptions['onError'];
  readonly #warned = new Set<string>();
  #items: readonly Item[];
  #compiled: Compiled | undefined;
  #version = 1;
  #isClosed = false;

  /**
   * @param items the layers; neither the array nor the items are changed
   * @param options see `MiddlewareChainOptions`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_DUPLICATE_NAME, naming
   * the item
   */
  constructor(
    items: readonly MiddlewareItem<NoInfer<In>, NoInfer<R>>[],
    options?: MiddlewareChainOptions,
  );
  /**
   * The same, with the manager as an argument in the place of the option `timers`.
   *
   * @param items the layers; neither the array nor the items are changed
   * @param timerManager its clock times the layers, and its timers end those with `timeoutMs`
   * @param options see `MiddlewareChainOptions`
   * @throws as above; ERR_INVALID_ARG_TYPE also for an option `timers`
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
    this.#items = unique(
      Array.from(items as readonly unknown[], (item, index) => itemOf(item, `items[${index}]`)),
    );
  }

  /** Number that goes up with every change of the chain. */
  get version(): number {
    return this.#version;
  }

  /**
   * Returns the compiled chain: the same function as long as nothing changes. It is a layer itself.
   *
   * @throws ERR_INVALID_ARG_TYPE if a `middleware()` of an item returns no function, and any error
   * that it throws; ERR_CLOSED after `close()`
   */
  execute(): CompiledChain<In, Out, R> {
    this.#checkOpen();
    const compiled = this.#compiled;
    const run = compiled !== undefined && isCurrent(compiled) ? compiled.run : this.#compile();
    return run as CompiledChain<In, Out, R>;
  }

  /**
   * Lets the next `execute()` compile the chain anew and ask the objects for their layers again.
   *
   * @throws ERR_CLOSED after `close()`
   */
  invalidateCache(): void {
    this.#checkOpen();
    this.#items = this.#items.map((item) => ({ ...item, made: undefined }));
    this.#compiled = undefined;
    this.#version++;
  }

  /**
   * Adds a layer, behind those of the same priority. `Added` is what it adds to the context for the
   * layers added later and for the final next: do not give those a higher priority.
   *
   * @param item the layer, its name and its options
   * @returns this chain, with the new type of its context
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_DUPLICATE_NAME;
   * ERR_CLOSED after `close()`. The chain is unchanged then
   */
  add<Added extends object = object>(
    item: MiddlewareItem<Out & Partial<Added>, R>,
  ): PerformantMiddlewareChain<In, Out & Added, R> {
    this.#checkOpen();
    this.#swap(unique([...this.#items, itemOf(item, 'item')]));
    return this as unknown as PerformantMiddlewareChain<In, Out & Added, R>;
  }

  /**
   * Removes a layer.
   *
   * @param name name of the layer
   * @returns whether the chain had such a layer
   * @throws ERR_INVALID_ARG_TYPE if `name` is not a string; ERR_CLOSED after `close()`
   */
  remove(name: string): boolean {
    this.#checkOpen();
    if (typeof name !== 'string') throw wrongType('name', name, 'a string');
    const left = this.#items.filter((item) => item.name !== name);
    if (left.length === this.#items.length) return false;
    this.#swap(left);
    return true;
  }

  /**
   * Lets a layer run again.
   *
   * @param name name of the layer
   * @returns this chain
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_NAME; ERR_CLOSED after `close()`
   */
  enable(name: string): this {
    return this.#change(name, (item) => ({ ...item, isEnabled: true }));
  }

  /**
   * Skips a layer until `enable()`. It keeps its place and its figures.
   *
   * @param name name of the layer
   * @returns this chain
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_NAME; ERR_CLOSED after `close()`
   */
  disable(name: string): this {
    return this.#change(name, (item) => ({ ...item, isEnabled: false }));
  }

  /**
   * Puts another function in the place of a layer. Its priority and options stay; its figures begin
   * anew.
   *
   * @param name name of the layer
   * @param middleware the new layer, or an object that makes it
   * @returns this chain
   * @throws ERR_INVALID_ARG_TYPE, ERR_UNKNOWN_NAME; ERR_CLOSED after `close()`
   */
  replace(name: string, middleware: MiddlewareFunction<Out, R> | MiddlewareObject<Out, R>): this {
    const checked = middlewareOf(middleware, `middleware ${describe(name)}`);
    return this.#change(name, (item) => ({
      ...item,
      ...renewed(item),
      middleware: checked,
      made: undefined,
    }));
  }

  /**
   * Moves a layer.
   *
   * @param name name of the layer
   * @param priority any finite number; the highest runs first
   * @returns this chain
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_NAME; ERR_CLOSED after `close()`
   */
  setPriority(name: string, priority: number): this {
    const checked = priorityOf(priority, 'priority');
    return this.#change(name, (item) => ({ ...item, priority: checked }));
  }

  /**
   * Returns the time of each layer's own work, without `next()`, by name: a moving average over the
   * observed runs, ms. Layers without an observed run are left out.
   */
  getPerformanceMetrics(): Record<string, number> {
    return Object.fromEntries(
      this.#items.flatMap(({ name, figures }) =>
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
      layers: sorted(this.#items).map((item) => this.#snapshotOf(item)),
    };
  }

  #snapshotOf({ name, priority, isEnabled, figures, breaker }: Item): LayerSnapshot {
    const { counters, self, total } = figures;
    return {
      name,
      priority,
      enabled: isEnabled,
      count: counters[figure.COUNT]!,
      observed: counters[figure.OBSERVED]!,
      errors: counters[figure.ERRORS]!,
      inFlight: counters[figure.IN_FLIGHT]!,
      detached: counters[figure.DETACHED]!,
      self: self?.snapshot() ?? null,
      total: total?.snapshot() ?? null,
      timeouts: counters[figure.TIMEOUTS]!,
      lateSettles: counters[figure.LATE_SETTLES]!,
      strayErrors: counters[figure.STRAY_ERRORS]!,
      optional:
        breaker === undefined
          ? null
          : {
              breaker: breaker.state(this.#timers.driver.now()),
              failures: counters[figure.FAILURES]!,
              skipped: counters[figure.SKIPPED]!,
            },
    };
  }

  /**
   * Ends the chain: from now on `execute()` and every change throw `ERR_CLOSED`. Clears the timers
   * of the layers, and closes the manager if it is the chain's own. A compiled chain still runs,
   * and runs under way end normally, but no layer times out any more. May be called again.
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

  #change(name: string, change: (item: Item) => Item): this {
    this.#checkOpen();
    if (typeof name !== 'string') throw wrongType('name', name, 'a string');
    const names = this.#items.map((item) => item.name);
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
    this.#swap(this.#items.map((item) => (item.name === name ? change(item) : item)));
    return this;
  }

  /** Replaces the items. If a layer cannot be made, this throws and the chain stays as it is. */
  #swap(items: readonly Item[]): void {
    this.#adopt(this.#compiledOf(items, this.#version + 1));
  }

  #compile(): ChainFunction {
    const items = unique(this.#items.map(reread));
    // The first compilation is not a change.
    const isChange = this.#compiled !== undefined;
    return this.#adopt(this.#compiledOf(items, this.#version + (isChange ? 1 : 0))).run;
  }

  #adopt(compiled: Compiled): Compiled {
    this.#items = compiled.items;
    this.#compiled = compiled;
    this.#version = compiled.version;
    return compiled;
  }

  #compiledOf(given: readonly Item[], version: number): Compiled {
    const items = given.map((item) =>
      item.isEnabled && item.made === undefined ? withLayer(item) : item,
    );
    const enabled = sorted(items).filter((item) => item.isEnabled);
    const run = compile({
      name: this.#name,
      version,
      layers: enabled.map((item, index) => ({
        name: item.name,
        label: labelOf(item),
        figures: item.figures,
        run: this.#wrapped(item, index),
      })),
      sampler: this.#sampler,
      now: () => this.#timers.driver.now(),
      // The timeout of an optional layer does not abort the run.
      hasSignal: enabled.some((item) => item.timeoutMs !== undefined && item.breaker === undefined),
    });
    compiledChains.add(run);
    return {
      version,
      run,
      items,
      watched: items.map(({ source, lastRead }) => ({ source, ...lastRead })),
      hashed: enabled.filter((item) => isHashable(item.middleware)),
    };
  }

  /** Returns the layer of an item inside the wrappers that it needs. */
  #wrapped(item: Item, index: number): LayerFunction {
    const { timeoutMs, breaker, made, name, figures } = item;
    if (made === undefined)
      throw new PortcullisError('ERR_INTERNAL', `${labelOf(item)} was not made`);
    const wrapped: WrappedLayer = {
      label: labelOf(item),
      figures,
      reportStray: (error, kind) => this.#reportStray(error, { layer: name, kind }),
    };
    let { layer } = made;
    if (!compiledChains.has(layer) && !awaitsItsNext(layer))
      layer = withDetachedErrors(layer, wrapped);
    if (timeoutMs !== undefined) {
      this.#layerTimers ??= this.#timers.scope(this.#name);
      layer = withTimeout(layer, wrapped, this.#layerTimers, timeoutMs, breaker !== undefined);
    }
    if (breaker !== undefined) layer = optional(layer, wrapped, breaker, this.#timers);
    return withStackBreak(layer, index);
  }

  #reportStray(error: unknown, stray: StrayError): void {
    const onError = this.#onError;
    if (onError === undefined) return this.#warnOf(error, stray);
    // A handler that fails must not fail the run. The warning reports the error instead.
    try {
      const answer: unknown = onError(error, stray);
      if (isThenable(answer)) void Promise.resolve(answer).catch(() => this.#warnOf(error, stray));
    } catch {
      this.#warnOf(error, stray);
    }
  }

  /** Warns of an error once for each kind and layer. */
  #warnOf(error: unknown, { layer, kind }: StrayError): void {
    const key = `${kind} ${layer}`;
    if (this.#warned.has(key)) return;
    this.#warned.add(key);
    const failure = {
      detached: 'did not wait for its next(), which failed',
      late: 'failed after its timeout',
      optional: 'failed and was left out',
    }[kind];
    // Only the name of the error: its text may hold a secret. `onError` gets the error itself.
    process.emitWarning(
      `${this.#name}: middleware ${describe(layer)} ${failure} (${error instanceof Error ? error.name : typeof error}); see onError`,
      {
        type: 'PortcullisWarning',
        code: `PORTCULLIS_${kind.toUpperCase()}_ERROR`,
      },
    );
  }
}

/** `PerformantMiddlewareChain` under a shorter name. */
export { PerformantMiddlewareChain as MiddlewareChain };

/**
 * Returns the items in the order in which they run. The sort is stable: ties keep the order given.
 */
const sorted = (items: readonly Item[]): Item[] =>
  items.toSorted((a, b) => b.priority - a.priority);

/** Whether no item has changed since it was compiled. It allocates nothing. */
function isCurrent({ watched, hashed }: Compiled): boolean {
  for (let at = 0; at < watched.length; at++) {
    const { source, middleware, enabled, priority, name } = watched[at]!;
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
    if (isHashable(middleware) && !Object.is(middleware.getConfigHash(), made?.hash)) return false;
  }
  return true;
}
