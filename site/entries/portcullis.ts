/** @module portcullis */
export * from '../../index.js';
