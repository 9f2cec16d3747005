// Writes the generated parts of docs/: option tables, methods and types, from the public
// declarations, and failures, exposed metrics and shared cells, from the core. Everything between
// `<!-- options: Name -->` (and the other commands below) and `<!-- end -->` is replaced; what
// stands outside of those marks is written by hand. `--check` changes nothing and fails on a difference.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { failureRows } from '../native/loader.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['docs', 'docs/api'];
/** Where a name is looked for, in this order; `of elysia` and the like choose one. */
const DECLARATIONS = {
  main: 'index.d.ts',
  elysia: 'dist/elysia.d.ts',
  ws: 'dist/ws.d.ts',
  bun: 'dist/bun.d.ts',
  testing: 'dist/testing.d.ts',
};

/** Statements of a declaration file, by name; overloads and merged declarations in a row. */
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
  Object.entries(DECLARATIONS).map(([name, path]) => [name, declarationsOf(path)]),
);

function find(name, where) {
  const places = where === undefined ? Object.keys(files) : [where];
  for (const place of places) {
    const found = files[place]?.get(name);
    if (found !== undefined) return found;
  }
  throw new Error(
    `docs: there is no declaration of ${name}${where === undefined ? '' : ` in ${where}`}`,
  );
}

/** What the declarations do not say and the pages have to. */
export const problems = [];

const oneLine = (text) => text.replace(/\s+/g, ' ').trim();

/** The doc comment of a node: its prose, and its tags by name. */
function docOf(node) {
  const comment = node.jsDoc?.at(-1);
  const prose = ts.getTextOfJSDocComment(comment?.comment) ?? '';
  const tags = (comment?.tags ?? []).map((tag) => {
    const text = ts.getTextOfJSDocComment(tag.comment) ?? '';
    return { kind: tag.tagName.text, name: tag.name?.getText(), text: text.replace(/^- /, '') };
  });
  return { prose: prose.trim(), tags };
}

/** A name for a few words, such as `'drop' | 'close'`, as these words. */
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

/** A type as one line, without `| undefined`, which the optional mark says already. */
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

const cell = (text) => oneLine(text).replaceAll('|', '\\|');
const code = (text) => `\`${text.replaceAll('|', '\\|')}\``;

/** How a doc comment says a range. */
const RANGE = /\d[\d,.^]*(?: - 1)? to |above|at least|or more|any finite/i;
const FUNCTION = /^\(*\(?.*\) =>/;

/** The default that a doc comment names, and its other sentences. */
export function splitDefault(prose) {
  const text = oneLine(prose);
  const match = /(?:^|(?<=[.;:] ))Default:? (.+?)(?:[.;](?= |$)|$)/.exec(text);
  if (match === null) return { fallback: undefined, rest: text };
  const rest = oneLine(`${text.slice(0, match.index)}${text.slice(match.index + match[0].length)}`)
    .replace(/[;.]? ?[.;]? *$/, '')
    .trim();
  return { fallback: match[1], rest: rest === '' ? '' : /[.!?]$/.test(rest) ? rest : `${rest}.` };
}

/** The fields of an interface, or of a type that is an object, its nested objects as dotted names. */
export function fieldsOf(name, where) {
  const fields = [];
  const bases = [];
  const walk = (members, prefix) => {
    for (const member of members) {
      if (!ts.isPropertySignature(member) && !ts.isMethodSignature(member)) continue;
      const field = `${prefix}${member.name.getText()}`;
      const { prose } = docOf(member);
      const isOptional = member.questionToken !== undefined;
      if (ts.isMethodSignature(member)) {
        fields.push({
          field: `${field}()`,
          type: oneLine(member.getText()).replaceAll('readonly ', '').replace(/;$/, ''),
          isOptional,
          prose,
          isFunction: true,
        });
        continue;
      }
      const inner = nested(member.type);
      fields.push({
        field,
        type: inner === undefined ? typeText(member.type) : inner.text,
        isOptional,
        prose,
        isFunction: FUNCTION.test(typeText(member.type)),
      });
      if (inner !== undefined) walk(inner.members, `${field}${inner.suffix}.`);
    }
  };
  for (const node of find(name, where)) {
    if (ts.isInterfaceDeclaration(node)) {
      bases.push(
        ...(node.heritageClauses ?? []).flatMap((clause) =>
          clause.types.map((type) => oneLine(type.getText())),
        ),
      );
      walk(node.members, '');
    } else if (ts.isTypeAliasDeclaration(node) && ts.isTypeLiteralNode(node.type))
      walk(node.type.members, '');
  }
  if (fields.length === 0 && bases.length === 0) throw new Error(`docs: ${name} has no fields`);
  return { fields, bases };
}

/** An object type within a type: `{…}`, `{…} | false`, `readonly {…}[]`. */
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

/** The heading of a table, and what the type is. */
const titled = (name, where) =>
  `#### ${name}\n\n${find(name, where)
    .map((node) => oneLine(docOf(node).prose))
    .join(' ')}\n\n`;

/** A table of options. Everything optional has to name its default, everything that is a number its range. */
function optionsTable(name, where, settings) {
  const { fields, bases } = fieldsOf(name, where);
  const rows = fields.map(({ field, type, isOptional, prose, isFunction }) => {
    let { fallback, rest } = splitDefault(prose);
    if (fallback === undefined && isOptional) fallback = isFunction ? 'none' : settings.default;
    if (fallback === undefined && isOptional) problems.push(`${name}.${field} has no default`);
    if (rest === '' && prose === '') problems.push(`${name}.${field} has no doc comment`);
    if (/\bnumber\b(?!\[)/.test(type) && !isFunction && !RANGE.test(rest)) {
      if (settings.range === undefined) problems.push(`${name}.${field} has no range`);
      else rest = `${rest.replace(/\.?$/, '')}: ${settings.range}.`;
    }
    return `| \`${field}\` | ${code(type)} | ${fallback === undefined ? 'required' : cell(fallback)} | ${cell(rest)} |`;
  });
  const more =
    bases.length === 0 ? '' : `\nAnd all of ${bases.map((base) => `\`${base}\``).join(' and ')}.\n`;
  return `${titled(name, where)}| option | type | default | meaning, unit and range |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n${more}`;
}

/** A table of what is read: figures of a report, fields of a result. */
function fieldsTable(name, where, settings) {
  const { fields, bases } = fieldsOf(name, where);
  if (settings.explained !== undefined)
    for (const { field, prose } of fields)
      if (prose === '') problems.push(`${name}.${field} has no doc comment`);
  const rows = fields.map(
    ({ field, type, isOptional, prose }) =>
      `| \`${field}${isOptional ? '?' : ''}\` | ${code(type)} | ${cell(prose)} |`,
  );
  const more =
    bases.length === 0 ? '' : `\nAnd all of ${bases.map((base) => `\`${base}\``).join(' and ')}.\n`;
  return `${titled(name, where)}| field | type | meaning |\n| --- | --- | --- |\n${rows.join('\n')}\n${more}`;
}

function signature(node, name) {
  const text = oneLine(node.getText().replace(/^\s*declare /, '')).replace(/;$/, '');
  return ts.isConstructorDeclaration(node) ? text.replace(/^constructor/, `new ${name}`) : text;
}

function described({ prose, tags }) {
  const lines = prose === '' ? [] : [prose, ''];
  for (const tag of tags) {
    if (tag.kind === 'param' && tag.text !== '')
      lines.push(`- \`${tag.name}\`: ${oneLine(tag.text)}`);
    else if (tag.kind === 'returns') lines.push(`- Returns ${oneLine(tag.text)}.`);
    else if (tag.kind === 'throws')
      lines.push(`- Throws ${oneLine(tag.text).replace(/\bERR_[A-Z_]*[A-Z]\b/g, '`$&`')}.`);
  }
  for (const tag of tags)
    if (tag.kind === 'example') lines.push(`\n\`\`\`ts\n${tag.text.trim()}\n\`\`\``);
  return lines.join('\n').replaceAll('..\n', '.\n').replace(/\.\.$/, '.').trim();
}

/** Every public member of a class or of an interface of methods, with what its comment says. */
function membersOf(name, where) {
  const [node] = find(name, where);
  const out = [described(docOf(node))];
  for (const member of node.members) {
    if (member.name !== undefined && ts.isPrivateIdentifier(member.name)) continue;
    const label = ts.isConstructorDeclaration(member)
      ? `new ${name}`
      : oneLine(member.name?.getText() ?? '');
    const doc = docOf(member);
    const isProperty =
      ts.isPropertyDeclaration(member) ||
      ts.isPropertySignature(member) ||
      ts.isGetAccessor(member) ||
      ts.isSetAccessor(member);
    if (ts.isSetAccessor(member) && doc.prose === '') continue;
    if (doc.prose === '' && doc.tags.length === 0) {
      if (label === '[Symbol.dispose]' || label === '[Symbol.toPrimitive]')
        doc.prose = `What \`using\` calls at the end of a block.`;
      else if (ts.isConstructorDeclaration(member)) doc.prose = '';
      else problems.push(`${name}.${label} has no doc comment`);
    }
    const heading = ts.isConstructorDeclaration(member)
      ? label
      : isProperty
        ? `.${label}`
        : label.startsWith('[')
          ? label
          : `.${label}()`;
    out.push(
      `### \`${heading}\`\n\n\`\`\`ts\n${signature(member, name).replaceAll('readonly ', isProperty ? 'readonly ' : '')}\n\`\`\`\n\n${described(doc)}`.trimEnd(),
    );
  }
  return out.join('\n\n');
}

function functionOf(name, where) {
  return find(name, where)
    .map(
      (node) =>
        `### \`${name}()\`\n\n\`\`\`ts\n${signature(node, name)}\n\`\`\`\n\n${described(docOf(node))}`,
    )
    .join('\n\n');
}

/** A type alias as it stands, with its comment. */
function typeOf(name, where) {
  return find(name, where)
    .map(
      (node) =>
        `#### ${name}\n\n${oneLine(docOf(node).prose)}\n\n\`\`\`ts\n${node.getText().replace(/^\s*declare /, '')}\n\`\`\``,
    )
    .join('\n\n');
}

/** Failures of input, exposed metrics, and the cells shared with the watcher, as the core lists them. */
function ofCore(name) {
  const words = readFileSync(join(root, 'src/metrics/families.rs'), 'utf8');
  if (name === 'metrics') {
    const rows = [];
    const add = (naming, family, kind, unit, help, labels = []) =>
      rows.push(
        `| \`${family}${kind === 'Counter' ? '_total' : ''}\` | ${kind.toLowerCase()} | ${naming.toLowerCase()} | ${unit || 'number'} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${cell(help)} |`,
      );
    const [, requests = ''] = /pub const REQUESTS[^=]*= &\[([\s\S]*)\];/.exec(words) ?? [];
    for (const [, body] of requests.matchAll(/RequestWords \{([^}]*)\}/g)) {
      const word = Object.fromEntries(
        [...body.matchAll(/(\w+): "?(\w+)"?/g)].map(([, key, value]) => [key, value]),
      );
      add(word.naming, word.duration, 'Histogram', 'seconds', 'Duration of requests', [
        word.method,
        word.route,
        'le',
      ]);
      add(word.naming, word.requests, 'Counter', '', 'Requests by status', [
        word.method,
        word.route,
        word.status,
      ]);
    }
    const families =
      /family\(\s*(Otel|Prom|Both),\s*"([^"]+)",\s*(Counter|Gauge),\s*"([^"]*)",\s*"([^"]+)",?\s*\)(?:,\s*labels: &\[([^\]]*)\])?/g;
    for (const [, naming, family, kind, unit, help, labels = ''] of words.matchAll(families))
      add(
        naming,
        family,
        kind,
        unit,
        help,
        [...labels.matchAll(/"(\w+)"/g)].map(([, label]) => label),
      );
    if (rows.length === 0) throw new Error('docs: src/metrics/families.rs names no families');
    return `| name | type | naming | unit | labels | meaning |\n| --- | --- | --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  }
  if (name === 'cells') {
    const source = readFileSync(join(root, 'src/sampler/cell.rs'), 'utf8');
    const rows = [
      ...source.matchAll(/\/\/\/ (\w+)[^:\n]*: ([^\n]+)\n\s*pub const (\w+): usize = (\d+);/g),
    ].map(
      ([, writer, what, cellName, at]) =>
        `| ${Number(at) * 8} | \`${cellName}\` | ${writer} | ${cell(what)} |`,
    );
    if (rows.length === 0) throw new Error('docs: src/sampler/cell.rs names no cells');
    return `| byte | cell | written by | what |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  }
  if (name === 'failures') {
    const rows = failureRows().map(
      ({ code: failure, status, meaning, remedy }) =>
        `| \`${failure}\` | ${status} | ${meaning} | ${cell(remedy)} |`,
    );
    return `| code | status | meaning | what to do |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
  }
  throw new Error(`docs: the core has no list of ${name}`);
}

const MARK =
  /<!-- (options|fields|class|function|type|core): (\w+)(?: of (\w+))?((?: \w+="[^"]*")*) -->\n[\s\S]*?<!-- end -->/g;

function generated(kind, name, where, settings) {
  switch (kind) {
    case 'options':
      return optionsTable(name, where, settings);
    case 'fields':
      return fieldsTable(name, where, settings);
    case 'class':
      return membersOf(name, where);
    case 'function':
      return functionOf(name, where);
    case 'type':
      return typeOf(name, where);
    default:
      return ofCore(name);
  }
}

/** Where each name is documented: the pages and anchors, in the order of the pages. */
const places = new Map();

function learnPlaces() {
  for (const page of pages()) {
    const text = readFileSync(join(root, page), 'utf8');
    for (const [, kind, name] of text.matchAll(MARK)) {
      if (kind === 'core') continue;
      const isHeading =
        kind === 'options' ||
        kind === 'fields' ||
        kind === 'type' ||
        new RegExp(`^## ${name}$`, 'm').test(text);
      places.set(name, [
        ...(places.get(name) ?? []),
        { page, anchor: isHeading ? `#${name.toLowerCase()}` : '' },
      ]);
    }
  }
}

/** Makes a link of every word in code that names one documented type. */
function linked(body, page) {
  const link = (whole, inner) => {
    const names = new Set((inner.match(/\b[A-Z]\w+\b/g) ?? []).filter((name) => places.has(name)));
    if (names.size !== 1) return whole;
    const found = places.get([...names][0]);
    const place = found.find((one) => one.page === page) ?? found[0];
    if (place.page === page) return place.anchor === '' ? whole : `[${whole}](${place.anchor})`;
    return `[${whole}](${relative(dirname(page), place.page)}${place.anchor})`;
  };
  return body
    .split(/(```[\s\S]*?```|^#.*$)/m)
    .map((part) => (/^(```|#)/.test(part) ? part : part.replace(/(?<!\[)`([^`]+)`/g, link)))
    .join('')
    .replaceAll(/\n{3,}/g, '\n\n');
}

/** A page with its generated parts as they should be. */
export function rendered(text, page) {
  if (places.size === 0) learnPlaces();
  let out = '';
  let at = 0;
  for (const match of text.matchAll(MARK)) {
    const [whole, kind, name, where, given] = match;
    const settings = Object.fromEntries(
      [...given.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
    );
    const body = linked(generated(kind, name, where, settings), page).trim();
    out += `${text.slice(at, match.index)}${whole.slice(0, whole.indexOf('-->') + 3)}\n\n${body}\n\n<!-- end -->`;
    at = match.index + whole.length;
  }
  return out + text.slice(at);
}

/** All pages, relative to the root. */
export function pages() {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .toSorted()
      .map((name) => `${folder}/${name}`),
  );
}

/** Every table of options there is: the interface and the page it stands on. */
export function documentedOptions() {
  return pages().flatMap((page) =>
    [...readFileSync(join(root, page), 'utf8').matchAll(MARK)]
      .filter(([, kind]) => kind === 'options')
      .map(([, , name, where]) => ({ name, where, page })),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const isCheck = process.argv.includes('--check');
  let stale = 0;
  for (const page of pages()) {
    const file = join(root, page);
    const text = readFileSync(file, 'utf8');
    const wanted = rendered(text, page);
    if (text === wanted || problems.length > 0) continue;
    stale++;
    if (isCheck) console.error(`portcullis: ${page} is not what the code says: run "npm run docs"`);
    else writeFileSync(file, wanted);
  }
  for (const problem of problems) console.error(`portcullis: docs: ${problem}`);
  if (problems.length > 0 || (isCheck && stale > 0)) process.exit(1);
}
