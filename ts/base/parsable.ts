/** Whether the engine can parse a URL. */

const BEYOND_ASCII = /[\u0080-\uffff]/;

/**
 * True for text of which `new URL()` makes a URL. Not `URL.canParse`: that of Node 20, once it is compiled, takes the
 * letters from U+0080 to U+00FF for bytes of UTF-8. It then refuses `https://é.example`, and accepts text that the
 * parser throws for.
 * @internal
 */
export function canParseUrl(text: string, base?: string): boolean {
  if (!BEYOND_ASCII.test(text)) return URL.canParse(text, base);
  try {
    void new URL(text, base);
    return true;
  } catch {
    return false;
  }
}
