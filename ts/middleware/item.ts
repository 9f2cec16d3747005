/** Items of a chain: the checks of them, and the detection of their changes. */
import {
  ArgumentTypeError,
  describe,
  outOfRange,
  PortcullisError,
  wrongType,
} from '../base/errors.js';
import { knownOptions, optionsObject, wholeNumber } from '../base/options.js';
import { Breaker } from './breaker.js';
import { Figures } from './figures.js';
import type { LayerFunction } from './layers.js';

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

/** An item as the caller wrote it, whatever its types. @internal */
export interface ItemSource {
  readonly name: string;
  readonly middleware: LayerFunction | { middleware(): LayerFunction; getConfigHash?(): unknown };
  readonly priority?: number | undefined;
  readonly enabled?: boolean | undefined;
  readonly timeoutMs?: number | undefined;
  readonly optional?: boolean | undefined;
  readonly breaker?:
    | { readonly failures?: number | undefined; readonly cooldownMs?: number | undefined }
    | undefined;
}

/** A checked item of a chain. It never changes: a change makes another one. @internal */
export interface Item {
  readonly name: string;
  /** The caller's own object. */
  readonly source: ItemSource;
  /** Values of `source` when it was read last: the caller may assign new ones. */
  readonly lastRead: Pick<ItemSource, 'name' | 'middleware' | 'priority' | 'enabled'>;
  readonly middleware: ItemSource['middleware'];
  readonly priority: number;
  readonly isEnabled: boolean;
  readonly timeoutMs: number | undefined;
  /** `undefined` if the layer is not optional. */
  readonly breaker: Breaker | undefined;
  readonly figures: Figures;
  /**
   * The layer and the hash of the configuration from which it was made; `undefined` until it is
   * made.
   */
  readonly made: { readonly layer: LayerFunction; readonly hash: unknown } | undefined;
}

/** Returns the name of an item as in messages: `middleware "auth"`. @internal */
export const labelOf = ({ name }: { readonly name: string }): string =>
  `middleware ${describe(name)}`;

/** Whether an object tells when its configuration changes. @internal */
export function isHashable(
  middleware: ItemSource['middleware'],
): middleware is { middleware(): LayerFunction; getConfigHash(): unknown } {
  return typeof middleware === 'object' && typeof middleware.getConfigHash === 'function';
}

/**
 * Checks an item that the caller has given.
 *
 * @param place name of the item in messages, as long as its own name is not known
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION
 * @internal
 */
export function itemOf(given: unknown, place: string): Item {
  optionsObject(place, given, 'an object { name, middleware }');
  const source = given as ItemSource;
  const { name, middleware, priority, enabled, timeoutMs } = source;
  if (typeof name !== 'string' || name === '')
    throw wrongType(`${place}.name`, name, 'a non-empty string');
  const label = labelOf({ name });
  knownOptions(label, given, ITEM_OPTIONS, `${label}.`);
  if (enabled !== undefined && typeof enabled !== 'boolean')
    throw wrongType(`${label}.enabled`, enabled, 'true or false');
  return {
    name,
    source,
    lastRead: { name, middleware, priority, enabled },
    middleware: middlewareOf(middleware, label),
    priority: priorityOf(priority === undefined ? 0 : priority, `${label}.priority`),
    isEnabled: enabled ?? true,
    timeoutMs:
      timeoutMs === undefined
        ? undefined
        : wholeNumber(`${label}.timeoutMs`, timeoutMs, 1, DELAY_MAX_MS),
    breaker: breakerOf(source, label),
    figures: new Figures(),
    made: undefined,
  };
}

/** Checks a layer, or an object that makes one. @internal */
export function middlewareOf(middleware: unknown, label: string): ItemSource['middleware'] {
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
  return middleware as ItemSource['middleware'];
}

/** Checks a priority. @internal */
export function priorityOf(priority: unknown, field: string): number {
  if (typeof priority !== 'number') throw wrongType(field, priority, 'a finite number');
  if (!Number.isFinite(priority)) throw outOfRange(field, priority, 'a finite number');
  return priority;
}

/** Returns the breaker of an optional layer. */
function breakerOf(
  { optional: isOptional, breaker }: ItemSource,
  label: string,
): Breaker | undefined {
  if (isOptional !== undefined && typeof isOptional !== 'boolean')
    throw wrongType(`${label}.optional`, isOptional, 'true or false');
  if (breaker !== undefined) {
    optionsObject(`${label}.breaker`, breaker);
    knownOptions(`${label}.breaker`, breaker, ['failures', 'cooldownMs'], `${label}.breaker.`);
    if (isOptional !== true)
      throw new ArgumentTypeError('ERR_INVALID_ARG_TYPE', `${label}.breaker needs optional: true`, {
        field: `${label}.breaker`,
        value: describe(breaker),
        allowed: 'absent, or given together with optional: true',
      });
  }
  if (isOptional !== true) return undefined;
  return new Breaker(
    wholeNumber(`${label}.breaker.failures`, breaker?.failures, 1, 1e6, 5),
    wholeNumber(`${label}.breaker.cooldownMs`, breaker?.cooldownMs, 1, DELAY_MAX_MS, 30_000),
  );
}

/** Refuses two items of one name. @internal */
export function unique(items: readonly Item[]): readonly Item[] {
  const names = new Set<string>();
  for (const { name } of items) {
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
  return items;
}

/** Returns the item with its layer. Asks an object for it. @internal */
export function withLayer(item: Item): Item {
  const { middleware } = item;
  if (typeof middleware === 'function')
    return { ...item, made: { layer: middleware, hash: undefined } };
  const hash = isHashable(middleware) ? middleware.getConfigHash() : undefined;
  const layer: unknown = middleware.middleware();
  if (typeof layer !== 'function')
    throw wrongType(`${labelOf(item)}.middleware()`, layer, 'a function when called');
  return { ...item, made: { layer: layer as LayerFunction, hash } };
}

/**
 * Returns the new figures and the closed breaker with which another function in the place of a
 * layer begins.
 * @internal
 */
export function renewed(item: Item): Pick<Item, 'figures' | 'breaker'> {
  return { figures: new Figures(), breaker: breakerOf(item.source, labelOf(item)) };
}

/**
 * Reads the caller's object again. A value that the caller has changed there counts; for all others
 * the item keeps its own, which methods of the chain may have set.
 * @internal
 */
export function reread(item: Item): Item {
  const { source, lastRead } = item;
  const hasOtherLayer = source.middleware !== lastRead.middleware;
  const isStale =
    isHashable(item.middleware) &&
    item.made !== undefined &&
    !Object.is(item.middleware.getConfigHash(), item.made.hash);
  const isSame =
    !hasOtherLayer &&
    !isStale &&
    source.enabled === lastRead.enabled &&
    source.priority === lastRead.priority &&
    source.name === lastRead.name;
  if (isSame) return item;
  const now = itemOf(source, labelOf(item));
  return {
    ...item,
    ...(hasOtherLayer || isStale ? { ...renewed(item), made: undefined } : {}),
    name: now.name,
    lastRead: now.lastRead,
    middleware: hasOtherLayer ? now.middleware : item.middleware,
    priority: source.priority === lastRead.priority ? item.priority : now.priority,
    isEnabled: source.enabled === lastRead.enabled ? item.isEnabled : now.isEnabled,
  };
}
