'use strict';
// Loads the addon by a literal `require`, which every bundler sees and follows. The error is kept,
// and ts/native/addon.ts explains it: an error of a static import could not be caught there.
const { env } = process;
const before = env.NAPI_RS_ENFORCE_VERSION_CHECK;
// The loader refuses a binary of another version: JavaScript and Rust share the layout of memory.
env.NAPI_RS_ENFORCE_VERSION_CHECK = '1';
try {
  module.exports = { loaded: require('./loader.js') };
} catch (error) {
  // A bundler has moved this code if no line of the stack is in this file, or has a scheme. (esbuild
  // names a function after the file, without a line number.)
  const { stack } = new Error('where');
  const isBundled =
    !/[\\/]native[\\/]load\.cjs:\d/.test(stack) || /(?:webpack|turbopack)[\w-]*:/.test(stack);
  module.exports = { error, isBundled };
} finally {
  if (before === undefined) delete env.NAPI_RS_ENFORCE_VERSION_CHECK;
  else env.NAPI_RS_ENFORCE_VERSION_CHECK = before;
}
