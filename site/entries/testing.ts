/** @module portcullis/testing */
export * from '../../dist/testing.js';
