/** @module portcullis/bun */
export * from '../../dist/bun.js';
