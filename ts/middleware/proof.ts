/**
 * Whether the source text of a layer shows that it awaits every `next()` it calls.
 *
 * A rejected promise that nobody handles ends a Node process. To handle the result of every
 * `next()`, in case the layer does not, costs a third of an async layer (README, Benchmarks), so it
 * is left out where the text proves that it is not needed. A text that this does not understand
 * proves nothing: its layer is slower, but never wrong.
 */

const TEXT_MAX = 20_000;
const HEAD = /^(?:async\b\s*)?(?:function\b\s*)?[\w$]*\s*\(\s*([\w$]*)\s*(?:,\s*([\w$]+)\s*)?\)/;
const HEAD_BARE = /^(?:async\s+)?[\w$]+\s*=>/;
/** Ways to use `next` under another name. */
const ESCAPES = /\b(?:arguments|eval|with)\b|\\u|\[native code\]/;

/**
 * Results by layer: its text never changes, and every change of a chain compiles all layers again.
 */
const known = new WeakMap<object, boolean>();

/** Whether the text of a layer proves that it awaits every `next()`. @internal */
export function awaitsItsNext(layer: (...args: never[]) => unknown): boolean {
  let isProven = known.get(layer);
  if (isProven === undefined) known.set(layer, (isProven = proven(layer)));
  return isProven;
}

function proven(layer: (...args: never[]) => unknown): boolean {
  const text = Function.prototype.toString.call(layer);
  if (text.length > TEXT_MAX || ESCAPES.test(text)) return false;
  const head = HEAD.exec(text);
  if (head === null) return HEAD_BARE.test(text);
  const next = head[2]?.replaceAll('$', String.raw`\$`);
  if (next === undefined) return true;
  const rest = text.slice(head[0].length);
  const used = rest.match(new RegExp(String.raw`(?<![\w$])${next}(?![\w$])`, 'g'))?.length ?? 0;
  // `await` and `next` have to be on one line: before a line break, `await` could be the end of a
  // comment. No character may follow that makes the call a part of another expression.
  const awaited =
    rest.match(
      new RegExp(String.raw`(?<![\w$.])await[ \t]+${next}[ \t]*\(\s*\)(?!\s*[.([?/\x60])`, 'g'),
    )?.length ?? 0;
  // The last statement of the layer itself, or the whole body of an arrow function: its promise is
  // passed on.
  const isReturned = new RegExp(
    String.raw`(?:(?<![\w$.])return[ \t]+${next}[ \t]*\(\s*\)\s*;?\s*\}|^\s*=>[ \t]*${next}[ \t]*\(\s*\))\s*$`,
  ).test(rest);
  return used === awaited + (isReturned ? 1 : 0);
}
