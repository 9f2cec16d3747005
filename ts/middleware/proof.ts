/**
 * Whether a layer's own text shows that it awaits every `next()` it calls.
 *
 * A rejected promise that nobody listens to ends a Node process. Listening to every `next()`, in
 * case the layer does not, costs a third of an async layer (README, Benchmarks); so it is left out
 * where it is of no use. Errs on one side only: what is not understood is not proven, and is merely
 * slower.
 */

const TEXT_MAX = 20_000;
const HEAD = /^(?:async\b\s*)?(?:function\b\s*)?[\w$]*\s*\(\s*([\w$]*)\s*(?:,\s*([\w$]+)\s*)?\)/;
const HEAD_BARE = /^(?:async\s+)?[\w$]+\s*=>/;
/** Ways to reach `next` under another name. */
const ESCAPES = /\b(?:arguments|eval|with)\b|\\u|\[native code\]/;

/** A text does not change, and a chain is compiled again at every change of a layer. */
const known = new WeakMap<object, boolean>();

/** @internal */
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
  // On one line: the word before could end a comment otherwise. Not followed by what would make
  // another expression of it.
  const awaited =
    rest.match(
      new RegExp(String.raw`(?<![\w$.])await[ \t]+${next}[ \t]*\(\s*\)(?!\s*[.([?/\x60])`, 'g'),
    )?.length ?? 0;
  // The last statement of the layer itself, or all of an arrow: handed on, not dropped.
  const isReturned = new RegExp(
    String.raw`(?:(?<![\w$.])return[ \t]+${next}[ \t]*\(\s*\)\s*;?\s*\}|^\s*=>[ \t]*${next}[ \t]*\(\s*\))\s*$`,
  ).test(rest);
  return used === awaited + (isReturned ? 1 : 0);
}
