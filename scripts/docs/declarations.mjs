// Reads the public declarations: names, doc comments, and the fields of interfaces and object
// types.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { root } from '../lib/project.mjs';

/**
 * The declaration files, in the order in which a name is looked up; `of elysia` and the like choose
 * one.
 */
const FILES = {
  main: 'index.d.ts',
  elysia: 'dist/elysia.d.ts',
  ws: 'dist/ws.d.ts',
  bun: 'dist/bun.d.ts',
  socketio: 'dist/socket.io.d.ts',
  testing: 'dist/testing.d.ts',
};
const FUNCTION = /^\(*\(?.*\) =>/;

export const oneLine = (text) => text.replace(/\s+/g, ' ').trim();

/**
 * Returns the statements of a declaration file by name; overloads and merged declarations share a
 * list.
 */
function declarationsOf(path) {
  const source = ts.createSourceFile(
    path,
    readFileSync(join(root, path), 'utf8'),
    ts.ScriptTarget.Latest,
    true,
  );
  const byName = new Map();
  for (const statement of source.statements) {
    const name = statement.name?.text;
    if (name !== undefined) byName.set(name, [...(byName.get(name) ?? []), statement]);
  }
  return byName;
}

const files = Object.fromEntries(
  Object.entries(FILES).map(([name, path]) => [name, declarationsOf(path)]),
);

/** Returns the declarations of a name; throws if there are none. */
export function find(name, where) {
  const places = where === undefined ? Object.keys(files) : [where];
  for (const place of places) {
    const found = files[place]?.get(name);
    if (found !== undefined) return found;
  }
  throw new Error(
    `docs: there is no declaration of ${name}${where === undefined ? '' : ` in ${where}`}`,
  );
}

/** Returns the doc comment of a node: its prose, and its tags in order. */
export function docOf(node) {
  const comment = node.jsDoc?.at(-1);
  const prose = ts.getTextOfJSDocComment(comment?.comment) ?? '';
  const tags = (comment?.tags ?? []).map((tag) => {
    const text = ts.getTextOfJSDocComment(tag.comment) ?? '';
    return { kind: tag.tagName.text, name: tag.name?.getText(), text: text.replace(/^- /, '') };
  });
  return { prose: prose.trim(), tags };
}

/** Returns the words behind a name such as `RateAction`: `'drop' | 'close' | 'report'`. */
function wordsOf(type) {
  if (!ts.isTypeReferenceNode(type) || type.typeArguments !== undefined) return undefined;
  const found = Object.values(files).flatMap((byName) => byName.get(type.typeName.getText()) ?? []);
  const union =
    found[0] !== undefined && ts.isTypeAliasDeclaration(found[0]) ? found[0].type : undefined;
  if (union === undefined || !ts.isUnionTypeNode(union) || union.types.length > 6) return undefined;
  return union.types.every((part) => ts.isLiteralTypeNode(part))
    ? union.types.map((part) => part.getText()).join(' | ')
    : undefined;
}

/**
 * Returns a type on one line, without `| undefined`: the question mark of an option says the same.
 */
function typeText(type) {
  if (type === undefined) return 'any';
  if (ts.isUnionTypeNode(type)) {
    return type.types
      .filter((part) => part.kind !== ts.SyntaxKind.UndefinedKeyword)
      .map(typeText)
      .join(' | ');
  }
  const words = wordsOf(type);
  if (words !== undefined) return words;
  if (ts.isParenthesizedTypeNode(type)) return `(${typeText(type.type)})`;
  return oneLine(type.getText()).replaceAll('readonly ', '').replaceAll('?: undefined', '');
}

/** Splits the prose of a doc comment into the default that it names and its other sentences. */
export function splitDefault(prose) {
  const text = oneLine(prose);
  const match = /(?:^|(?<=[.;:] ))Default:? (.+?)(?:\.(?= |$)|$)/.exec(text);
  if (match === null) return { fallback: undefined, rest: text };
  const rest = oneLine(`${text.slice(0, match.index)}${text.slice(match.index + match[0].length)}`)
    .replace(/[;.]? ?[.;]? *$/, '')
    .trim();
  return { fallback: match[1], rest: rest === '' ? '' : /[.!?]$/.test(rest) ? rest : `${rest}.` };
}

/** Returns the one entry of a field that is a method. */
function methodEntry(member, field, isOptional) {
  return {
    field: `${field}()`,
    type: oneLine(member.getText()).replaceAll('readonly ', '').replace(/;$/, ''),
    isOptional,
    prose: docOf(member).prose,
    isFunction: true,
  };
}

/**
 * Returns the entries of members, in order; those of a nested object follow it, with dotted names.
 */
function entriesOf(members, prefix = '') {
  return members.flatMap((member) => {
    if (!ts.isPropertySignature(member) && !ts.isMethodSignature(member)) return [];
    const field = `${prefix}${member.name.getText()}`;
    const isOptional = member.questionToken !== undefined;
    if (ts.isMethodSignature(member)) return [methodEntry(member, field, isOptional)];
    const inner = nested(member.type);
    const entry = {
      field,
      type: inner === undefined ? typeText(member.type) : inner.text,
      isOptional,
      prose: docOf(member).prose,
      isFunction: FUNCTION.test(typeText(member.type)),
    };
    return inner === undefined
      ? [entry]
      : [entry, ...entriesOf(inner.members, `${field}${inner.suffix}.`)];
  });
}

/** Returns the fields of an interface or of an object type, and the interfaces that it extends. */
export function fieldsOf(name, where) {
  const nodes = find(name, where);
  const fields = nodes.flatMap((node) => {
    if (ts.isInterfaceDeclaration(node)) return entriesOf(node.members);
    return ts.isTypeAliasDeclaration(node) && ts.isTypeLiteralNode(node.type)
      ? entriesOf(node.type.members)
      : [];
  });
  const bases = nodes
    .filter((node) => ts.isInterfaceDeclaration(node))
    .flatMap((node) => node.heritageClauses ?? [])
    .flatMap((clause) => clause.types.map((type) => oneLine(type.getText())));
  if (fields.length === 0 && bases.length === 0) throw new Error(`docs: ${name} has no fields`);
  return { fields, bases };
}

/** Returns the object type within a type: `{…}`, `{…} | false`, `readonly {…}[]`. */
function nested(type) {
  if (type === undefined) return undefined;
  if (ts.isTypeLiteralNode(type)) return { members: type.members, text: 'object', suffix: '' };
  if (ts.isTypeOperatorNode(type)) return nested(type.type);
  if (ts.isArrayTypeNode(type)) {
    const inner = nested(type.elementType);
    return inner === undefined ? undefined : { ...inner, text: `${inner.text}[]`, suffix: '[]' };
  }
  if (ts.isUnionTypeNode(type)) {
    const parts = type.types.filter((part) => part.kind !== ts.SyntaxKind.UndefinedKeyword);
    const inner = parts.map(nested);
    const literal = inner.find((found) => found !== undefined);
    if (
      literal === undefined ||
      literal.members.length === 0 ||
      parts.some((part) => ts.isFunctionTypeNode(part))
    )
      return undefined;
    return {
      ...literal,
      text: parts.map((part, index) => inner[index]?.text ?? typeText(part)).join(' | '),
    };
  }
  return undefined;
}
