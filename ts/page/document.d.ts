/** The page itself: written by `scripts/page.mjs` from `page/` at build time. */

/** The whole document. */
export const DOCUMENT: string;
/** Of its style sheet and its script, as a content security policy wants them: `sha256-...`. */
export const STYLE_HASH: string;
export const SCRIPT_HASH: string;
