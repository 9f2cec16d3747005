/** Texts that many objects hold, such as the user agents of connections: equal ones are one text in memory. */

/** Most texts that are remembered. */
const TEXTS_MAX = 256;
/** Longest text that is shared, characters. */
const LENGTH_MAX = 256;

/** Shares equal texts, in bounded memory whatever outsiders send. @internal */
export class SharedTexts {
  readonly #texts = new Map<string, string>();

  /** Returns an equal text that was given before, if it is remembered; else the text itself. */
  of(text: string): string {
    if (text === '' || text.length > LENGTH_MAX) return text;
    const known = this.#texts.get(text);
    if (known !== undefined) return known;
    if (this.#texts.size >= TEXTS_MAX) this.#texts.clear();
    this.#texts.set(text, text);
    return text;
  }
}
