// Ends every compiled module with a call of `share` (ts/base/share.ts), so that a thread has one
// copy of it however often the package is loaded.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path/posix';
import typescript from 'typescript';

const { ScriptTarget, SyntaxKind, createSourceFile, isIdentifier } = typescript;
/**
 * Modules that stay as they are: the check of the runtime, which runs on runtimes that know less
 * syntax and has no state; `share` itself; the page's document, a constant.
 */
const EXEMPT = ['native/runtime.js', 'base/share.js', 'page/document.js'];
const { name, version } = JSON.parse(readFileSync('package.json', 'utf8'));

/** Returns the names that a binding declares: an identifier, or a pattern of them. */
const namesOf = (binding) =>
  isIdentifier(binding)
    ? [binding.text]
    : binding.elements.flatMap((element) => namesOf(element.name));

const isExported = (statement) =>
  statement.modifiers?.some(({ kind }) => kind === SyntaxKind.ExportKeyword) === true;

/** Returns the names that an exported declaration declares. */
function declared(statement, path) {
  const { kind, modifiers, declarationList } = statement;
  const isDefault = modifiers.some((modifier) => modifier.kind === SyntaxKind.DefaultKeyword);
  if (kind === SyntaxKind.VariableStatement && (declarationList.flags & 2) !== 0)
    return declarationList.declarations.flatMap((declaration) => namesOf(declaration.name));
  if (
    !isDefault &&
    (kind === SyntaxKind.ClassDeclaration || kind === SyntaxKind.FunctionDeclaration)
  )
    return [statement.name.text];
  // A `let` would be shared with the value that it had at the end of its module.
  throw new Error(`${path}: only classes, functions and constants can be exported, by name`);
}

/** Returns the code of a module with the call at its end, or `undefined` if it exports nothing. */
function shared(code, path) {
  const source = createSourceFile(path, code, ScriptTarget.ES2022, true);
  const exports = [];
  const cuts = [];
  for (const statement of source.statements) {
    if (isExported(statement)) {
      exports.push(...declared(statement, path).map((local) => [local, local]));
      const word = statement.modifiers[0];
      cuts.push([word.getStart(source), word.end + 1]);
    } else if (
      statement.kind === SyntaxKind.ExportDeclaration &&
      statement.moduleSpecifier === undefined
    ) {
      for (const { name: outer, propertyName } of statement.exportClause.elements)
        exports.push([(propertyName ?? outer).text, outer.text]);
      cuts.push([statement.getStart(source), statement.end]);
    } else if (statement.kind === SyntaxKind.ExportAssignment)
      throw new Error(`${path}: a default export cannot be shared`);
  }
  if (exports.length === 0) return undefined;
  for (const [from, to] of cuts.toReversed()) code = code.slice(0, from) + code.slice(to);
  const share = relative(dirname(path), 'base/share.js').replace(/^(?!\.)/, './');
  const lines = [
    `import { share as $share } from '${share}';`,
    `const { ${exports.map(([, outer]) => `${outer}: $${outer}`).join(', ')} } = $share(`,
    `  '${name}@${version}',`,
    `  '${path}',`,
    `  { ${exports.map(([local, outer]) => (local === outer ? local : `${outer}: ${local}`)).join(', ')} },`,
    ');',
    `export { ${exports.map(([, outer]) => `$${outer} as ${outer}`).join(', ')} };`,
  ];
  return `${code}${lines.join('\n')}\n`;
}

for (const path of readdirSync('dist', { recursive: true }).map((file) =>
  file.replaceAll('\\', '/'),
)) {
  if (!path.endsWith('.js') || EXEMPT.includes(path)) continue;
  const code = shared(readFileSync(join('dist', path), 'utf8'), path);
  if (code !== undefined) writeFileSync(join('dist', path), code);
}
