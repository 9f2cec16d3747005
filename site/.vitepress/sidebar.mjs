// The sidebars: the pages of docs/ in the order of the lists below, the pages of folders by name.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const content = fileURLToPath(new URL('../content', import.meta.url));
/** Chapters of the guide. A page of docs/ that none of them names stands under "More". */
const CHAPTERS = {
  'Choose and move': ['comparison', 'migrating'],
  'Build and ship': ['bundlers', 'docker'],
  'Run it': ['proxies', 'kubernetes', 'workers', 'issuers', 'kpi', 'errors'],
  'How it behaves': ['timers', 'memory', 'benchmarks', 'load', 'soak'],
};
const GROUPS = {
  classes: 'Classes',
  functions: 'Functions',
  interfaces: 'Interfaces',
  'type-aliases': 'Types',
};

/** Returns an entry for a page, with the text of its first heading. */
function entryOf(path, text) {
  const [, heading] = /^# (.+)$/m.exec(readFileSync(join(content, path), 'utf8')) ?? [];
  return { text: text ?? heading.replaceAll('`', ''), link: `/${path.replace(/index\.md$/, '')}` };
}
const pagesIn = (folder) =>
  existsSync(join(content, folder))
    ? readdirSync(join(content, folder))
        .filter((name) => name.endsWith('.md') && name !== 'index.md')
        .toSorted()
    : [];

function guide() {
  const listed = Object.values(CHAPTERS).flat();
  const more = pagesIn('docs').filter((name) => !listed.includes(name.slice(0, -3)));
  const hosts = pagesIn('docs/hosts').map((name) => entryOf(`docs/hosts/${name}`));
  if (existsSync(join(content, 'docs/hosts/index.md')))
    hosts.unshift(entryOf('docs/hosts/index.md', 'All hosts'));
  const examples = readdirSync(join(content, 'examples'), { withFileTypes: true })
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => entryOf(`examples/${name}/index.md`, name));
  const chapters = Object.entries(CHAPTERS).map(([text, names]) => ({
    text,
    items: names.map((name) => entryOf(`docs/${name}.md`)),
  }));
  return [
    { text: 'Portcullis', items: [entryOf('index.md', 'Start')] },
    ...(hosts.length === 0 ? [] : [{ text: 'Hosts', collapsed: false, items: hosts }]),
    {
      text: 'Examples',
      collapsed: true,
      items: [entryOf('examples/index.md', 'All examples'), ...examples],
    },
    ...chapters,
    ...(more.length === 0
      ? []
      : [{ text: 'More', items: more.map((name) => entryOf(`docs/${name}`)) }]),
    {
      text: 'Project',
      items: ['SECURITY', 'ARCHITECTURE', 'CONTRIBUTING', 'CHANGELOG'].map((name) =>
        entryOf(`${name}.md`),
      ),
    },
  ];
}

const api = () => [
  {
    text: 'API',
    items: [
      entryOf('docs/api/index.md', 'Overview'),
      ...pagesIn('docs/api').map((name) => entryOf(`docs/api/${name}`)),
    ],
  },
];

/** Returns the pages that TypeDoc has written for one entry of the package. */
function moduleOf(name) {
  const folder = `reference/${name}`;
  const items = Object.entries(GROUPS)
    .filter(([group]) => existsSync(join(content, folder, group)))
    .map(([group, text]) => ({
      text,
      collapsed: group !== 'classes' && group !== 'functions',
      items: pagesIn(`${folder}/${group}`).map((page) =>
        entryOf(`${folder}/${group}/${page}`, page.slice(0, -3)),
      ),
    }));
  return {
    text: name,
    link: `/${folder}/`,
    collapsed: name !== 'portcullis',
    items,
  };
}
const reference = () =>
  ['portcullis', 'portcullis/elysia', 'portcullis/ws', 'portcullis/bun', 'portcullis/testing'].map(
    moduleOf,
  );

export const sidebar = () => ({
  '/docs/api/': api(),
  '/reference/': reference(),
  '/': guide(),
});
