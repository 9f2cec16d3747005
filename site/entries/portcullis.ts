/** @module portcullis */
// Named, since TypeDoc takes the first name of a class, and the other one as its alias.
export { PerformantMiddlewareChain } from '../../index.js';
export * from '../../index.js';
