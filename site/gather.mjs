// Gathers the pages of the site: README, the other pages of the root, docs/ and examples/, at the
// same paths below site/content, so that links between them keep leading there.
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join, posix, relative } from 'node:path';

const ROOT_PAGES = [
  'README.md',
  'SECURITY.md',
  'ARCHITECTURE.md',
  'CONTRIBUTING.md',
  'CHANGELOG.md',
];
/** Files that pages link to or show, and that are no pages. */
const ASSET = /\.(?:png|svg|txt)$/;
const LANGUAGES = { json: 'json', ts: 'ts', mjs: 'js', js: 'js', yaml: 'yaml', yml: 'yaml' };

const posixPath = (path) => path.replaceAll('\\', '/');
/** Returns the path of a page within the site: the page of a folder is its index. */
const placeOf = (path) => path.replace(/(^|\/)README\.md$/, '$1index.md');

/** Returns the page that shows all files of an example. */
function exampleOf(root, name) {
  const folder = join(root, 'examples', name);
  const readme = readFileSync(join(folder, 'README.md'), 'utf8');
  const files = readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'README.md')
    .map((entry) => {
      const code = readFileSync(join(folder, entry.name), 'utf8').trimEnd();
      const language = LANGUAGES[entry.name.split('.').at(-1)] ?? 'txt';
      return `## ${entry.name}\n\n\`\`\`${language}\n${code}\n\`\`\``;
    });
  return `${readme.trimEnd()}\n\n${files.join('\n\n')}\n`;
}

/** Returns the pages by their paths in the repository. */
function pagesOf(root) {
  const pages = new Map(ROOT_PAGES.map((path) => [path, readFileSync(join(root, path), 'utf8')]));
  for (const name of readdirSync(join(root, 'docs'), { recursive: true }))
    if (name.endsWith('.md'))
      pages.set(posixPath(join('docs', name)), readFileSync(join(root, 'docs', name), 'utf8'));
  pages.set('examples/README.md', readFileSync(join(root, 'examples', 'README.md'), 'utf8'));
  for (const { name } of readdirSync(join(root, 'examples'), { withFileTypes: true }))
    if (existsSync(join(root, 'examples', name, 'README.md')))
      pages.set(`examples/${name}/README.md`, exampleOf(root, name));
  return pages;
}

/** A link or an image, whose text may hold brackets. */
const LINK = /(!?)\[((?:[^[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)/g;

/**
 * Calls `change` for the target of each link outside of code blocks, with true for an image. Without a new
 * target, only the text of the link stays.
 */
const eachLink = (text, change) =>
  text
    .split(/(```[\s\S]*?```)/)
    .map((part, at) =>
      at % 2 === 1
        ? part
        : part.replaceAll(LINK, (_all, image, label, target) => {
            const changed = change(target, image !== '');
            return changed === undefined ? label : `${image}[${label}](${changed})`;
          }),
    )
    .join('');

/**
 * Writes the pages into `content`.
 * @returns the links that lead nowhere
 */
export function gather(root, content) {
  const pages = pagesOf(root);
  const stray = [];
  const shown = new Set();
  const linked = new Set();
  for (const [path, text] of pages) {
    const place = placeOf(path);
    const written = eachLink(text, (target, isShown) => {
      if (/^(?:https?:|#)/.test(target)) return target;
      const [file, anchor] = target.split('#');
      const wanted = posix.join(posix.dirname(path), file).replace(/\/$/, '');
      const page = [wanted, `${wanted}/README.md`].find((one) => pages.has(one));
      if (page !== undefined) {
        const to = posixPath(relative(dirname(place), placeOf(page)));
        return `${to.startsWith('.') ? to : `./${to}`}${anchor === undefined ? '' : `#${anchor}`}`;
      }
      if (!existsSync(join(root, wanted))) stray.push(`${path}: ${target}`);
      // Other files of the repository, such as tests, are not on the site.
      else if (!ASSET.test(wanted)) return undefined;
      else (isShown ? shown : linked).add(wanted);
      return target;
    });
    mkdirSync(dirname(join(content, place)), { recursive: true });
    writeFileSync(join(content, place), written);
  }
  // VitePress bundles shown images; linked files it copies from its public folder only.
  for (const asset of shown) cpSync(join(root, asset), join(content, asset));
  for (const asset of linked) cpSync(join(root, asset), join(content, 'public', asset));
  return stray;
}
