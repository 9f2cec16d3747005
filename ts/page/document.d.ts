/** The page's document, which `scripts/page.mjs` builds from `page/`. */

/** The whole document. */
export const DOCUMENT: string;
/** Hashes of its style sheet and its script for the content security policy: `sha256-...`. */
export const STYLE_HASH: string;
export const SCRIPT_HASH: string;
