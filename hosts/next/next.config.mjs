import { dirname } from 'node:path';

/** The lock file of this folder is not the only one above it. */
export default { turbopack: { root: dirname(import.meta.filename) } };
