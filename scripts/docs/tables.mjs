// Renders tables of options and of fields.
import { docOf, fieldsOf, find, oneLine, splitDefault } from './declarations.mjs';
import { problems } from './problems.mjs';

/** The ways in which a doc comment names a range. */
const RANGE = /\d[\d,.^]*(?: - 1)? to |above|at least|or more|any finite/i;

export const cell = (text) => oneLine(text).replaceAll('|', '\\|');
/** `Given` is a `Partial` whose properties may be undefined, as all options. */
const code = (text) => `\`${text.replaceAll('|', '\\|').replaceAll(/\bGiven</g, 'Partial<')}\``;

/** Renders a Markdown table. */
export const table = (heads, rows) =>
  [heads, heads.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |\n`).join('');

/** Renders the table of a type's fields below its name and its doc comment. */
function tableOf(name, where, heads, rowOf) {
  const { fields, bases } = fieldsOf(name, where);
  const prose = find(name, where).map((node) => oneLine(docOf(node).prose));
  const more = bases.length === 0 ? '' : `\nAnd all of ${bases.map(code).join(' and ')}.\n`;
  return `#### ${name}\n\n${prose.join(' ')}\n\n${table(heads, fields.map(rowOf))}${more}`;
}

/**
 * Renders a table of options. Every optional one must name its default and every number its range.
 * @param settings `default` and `range` of the options whose doc comments name none
 */
export function optionsTable(name, where, settings) {
  const heads = ['option', 'type', 'default', 'meaning, unit and range'];
  return tableOf(name, where, heads, ({ field, type, isOptional, prose, isFunction }) => {
    let { fallback, rest } = splitDefault(prose);
    if (fallback === undefined && isOptional) fallback = isFunction ? 'none' : settings.default;
    if (fallback === undefined && isOptional) problems.push(`${name}.${field} has no default`);
    if (rest === '' && prose === '') problems.push(`${name}.${field} has no doc comment`);
    if (/\bnumber\b(?!\[)/.test(type) && !isFunction && !RANGE.test(rest)) {
      if (settings.range === undefined) problems.push(`${name}.${field} has no range`);
      else rest = `${rest.replace(/\.?$/, '')}: ${settings.range}.`;
    }
    return [
      `\`${field}\``,
      code(type),
      fallback === undefined ? 'required' : cell(fallback),
      cell(rest),
    ];
  });
}

/**
 * Renders a table of fields that users read: figures of a report, parts of a result.
 * @param settings `explained` demands a doc comment of every field
 */
export function fieldsTable(name, where, settings) {
  const heads = ['field', 'type', 'meaning'];
  return tableOf(name, where, heads, ({ field, type, isOptional, prose }) => {
    if (settings.explained !== undefined && prose === '')
      problems.push(`${name}.${field} has no doc comment`);
    return [`\`${field}${isOptional ? '?' : ''}\``, code(type), cell(prose)];
  });
}
