/** Whether the engine can parse a URL. */

const BEYOND_ASCII = /[\u0080-\uffff]/;

/**
 * Returns whether `new URL()` accepts a text. Only the parser judges text beyond ASCII: once Node 20 has compiled
 * `URL.canParse`, it takes the letters from U+0080 to U+00FF for bytes of UTF-8. It then refuses `https://é.example`,
 * and accepts text for which the parser throws.
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
