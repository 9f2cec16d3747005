/** Answers of the core about a cluster, besides 0 (granted) and the codes of limits. */

/** The answer comes later. @internal */
export const WAIT = -1;
/** The policy refuses. @internal */
export const UNREACHABLE = 64;
/** Too many clients wait. @internal */
export const OVERLOADED = 65;
/** The cluster is closed. @internal */
export const LEFT = 66;
/** The seat was given back before the answer came. @internal */
export const ABANDONED = 67;
/** Told of a seat that is held: a newcomer of the same user replaces it. @internal */
export const REPLACED = 68;
/** The answer of a rate is its code plus this times the milliseconds until it admits again. @internal */
export const CODES = 128;
/** Another process has changed the limits at the same time. @internal */
export const CONFLICT = 70;
/** No more entries can be held. @internal */
export const FULL = 71;
