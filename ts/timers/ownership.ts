/** The timers that an object works with: its caller's manager, or a manager of its own. */
import { ArgumentTypeError, describe, wrongType } from '../base/errors.js';
import { optionsObject } from '../base/options.js';
import { TimerManager } from './manager.js';

/** The timers of one object, and its options. @internal */
export interface TimerOwnership<O> {
  readonly timers: TimerManager;
  /** True if the manager was made here: the object's `close()` then closes it too. */
  readonly isOwn: boolean;
  readonly options: O;
}

/**
 * Resolves the last arguments of a constructor: `(options)`, or the positional form
 * `(timerManager, options)`.
 *
 * @param name owner that `snapshot()` shows for the timers of a new manager
 * @throws ERR_INVALID_ARG_TYPE if the manager or the options have the wrong type, or if the manager
 * is given both as an argument and as an option
 * @internal
 */
export function resolveTimers<O extends { readonly timers?: TimerManager | undefined }>(
  first: TimerManager | O | undefined,
  second: O | undefined,
  name: string,
): TimerOwnership<O> {
  const isPositional = first instanceof TimerManager;
  // An empty variable in the place of the manager is a mistake: a manager made here instead would
  // never be closed with the caller's.
  if (!isPositional && second !== undefined)
    throw wrongType('timerManager', first, 'a TimerManager');
  const given = isPositional ? second : first;
  if (given !== undefined)
    optionsObject('options', given, isPositional ? 'an object' : 'an object or a TimerManager');
  const options = given ?? ({} as O);
  const { timers } = options;
  if (timers !== undefined && !(timers instanceof TimerManager))
    throw wrongType('timers', timers, 'a TimerManager');
  if (!isPositional)
    return { timers: timers ?? new TimerManager({ name }), isOwn: timers === undefined, options };
  if (timers !== undefined)
    throw new ArgumentTypeError(
      'ERR_INVALID_ARG_TYPE',
      'timers must not be an option where a TimerManager is an argument',
      { field: 'timers', value: describe(timers), allowed: 'one TimerManager' },
    );
  return { timers: first, isOwn: false, options };
}
