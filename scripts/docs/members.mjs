// Renders classes, functions and type aliases, with their signatures and doc comments.
import ts from 'typescript';
import { docOf, find, oneLine } from './declarations.mjs';
import { problems } from './problems.mjs';

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

const isProperty = (member) =>
  ts.isPropertyDeclaration(member) ||
  ts.isPropertySignature(member) ||
  ts.isGetAccessor(member) ||
  ts.isSetAccessor(member);

/** Returns the doc comment of a member; a missing one is a problem, except for a constructor. */
function memberDoc(member, className, label) {
  const doc = docOf(member);
  if (doc.prose !== '' || doc.tags.length > 0 || ts.isConstructorDeclaration(member)) return doc;
  if (label === '[Symbol.dispose]' || label === '[Symbol.toPrimitive]')
    return { ...doc, prose: 'Called by `using` at the end of a block.' };
  problems.push(`${className}.${label} has no doc comment`);
  return doc;
}

function headingOf(member, label) {
  if (ts.isConstructorDeclaration(member)) return label;
  if (isProperty(member)) return `.${label}`;
  return label.startsWith('[') ? label : `.${label}()`;
}

/** Renders every public member of a class, or of an interface of methods. */
export function classMembers(name, where) {
  const [node] = find(name, where);
  const members = node.members.filter(
    (member) =>
      (member.name === undefined || !ts.isPrivateIdentifier(member.name)) &&
      !(ts.isSetAccessor(member) && docOf(member).prose === ''),
  );
  const sections = members.map((member) => {
    const label = ts.isConstructorDeclaration(member)
      ? `new ${name}`
      : oneLine(member.name?.getText() ?? '');
    const text = signature(member, name);
    const shown = isProperty(member) ? text : text.replaceAll('readonly ', '');
    const doc = described(memberDoc(member, name, label));
    return `### \`${headingOf(member, label)}\`\n\n\`\`\`ts\n${shown}\n\`\`\`\n\n${doc}`.trimEnd();
  });
  return [described(docOf(node)), ...sections].join('\n\n');
}

/** Renders every overload of a function. */
export function functionOf(name, where) {
  return find(name, where)
    .map(
      (node) =>
        `### \`${name}()\`\n\n\`\`\`ts\n${signature(node, name)}\n\`\`\`\n\n${described(docOf(node))}`,
    )
    .join('\n\n');
}

/** Renders a type alias as it is declared, with its comment. */
export function typeOf(name, where) {
  return find(name, where)
    .map(
      (node) =>
        `#### ${name}\n\n${oneLine(docOf(node).prose)}\n\n\`\`\`ts\n${node.getText().replace(/^\s*declare /, '')}\n\`\`\``,
    )
    .join('\n\n');
}
