/** @module portcullis/ws */
export * from '../../dist/ws.js';
