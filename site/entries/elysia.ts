/** @module portcullis/elysia */
export * from '../../dist/elysia.js';
