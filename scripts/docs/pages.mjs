// Finds the generated parts of the pages, renders them, and links the types that they name.
import { readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { root } from '../lib/project.mjs';
import { coreTable } from './core.mjs';
import { hostExample } from './hosts.mjs';
import { classMembers, functionOf, typeOf } from './members.mjs';
import { fieldsTable, optionsTable } from './tables.mjs';

const FOLDERS = ['docs', 'docs/api', 'docs/hosts'];
const RENDERERS = {
  options: optionsTable,
  fields: fieldsTable,
  class: classMembers,
  function: functionOf,
  type: typeOf,
  core: coreTable,
  host: hostExample,
};
const MARK =
  /<!-- (options|fields|class|function|type|core|host): ([\w./-]+)(?: of (\w+))?((?: \w+="[^"]*")*) -->\n[\s\S]*?<!-- end -->/g;

const read = (page) => readFileSync(join(root, page), 'utf8');

/** Returns all pages, relative to the root. */
export function pages() {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .toSorted()
      .map((name) => `${folder}/${name}`),
  );
}

/** Returns every table of options: the interface and the page that it is on. */
export function documentedOptions() {
  return pages().flatMap((page) =>
    [...read(page).matchAll(MARK)]
      .filter(([, kind]) => kind === 'options')
      .map(([, , name, where]) => ({ name, where, page })),
  );
}

/** Returns the pages and anchors that document each name, in the order of the pages. */
function findPlaces() {
  const places = new Map();
  for (const page of pages()) {
    const text = read(page);
    for (const [, kind, name] of text.matchAll(MARK)) {
      if (kind === 'core' || kind === 'host') continue;
      const hasHeading =
        ['options', 'fields', 'type'].includes(kind) || new RegExp(`^## ${name}$`, 'm').test(text);
      const place = { page, anchor: hasHeading ? `#${name.toLowerCase()}` : '' };
      places.set(name, [...(places.get(name) ?? []), place]);
    }
  }
  return places;
}

let places;

/** A name of a type; a part of a header field such as `RateLimit-Policy` is none. */
const NAME = /(?<![\w-])[A-Z]\w+\b(?!-)/g;
/** Such a header field; on its line, its first part alone is a field, too. */
const FIELD = /`([A-Z]\w+)-[A-Z][\w-]*`/g;

/** Makes a link of every code span that names one documented type. */
function linked(body, page) {
  places ??= findPlaces();
  const link = (whole, inner, fields) => {
    const names = new Set((inner.match(NAME) ?? []).filter((name) => places.has(name)));
    if (names.size !== 1 || fields.has(inner)) return whole;
    const found = places.get([...names][0]);
    const place = found.find((one) => one.page === page) ?? found[0];
    if (place.page === page) return place.anchor === '' ? whole : `[${whole}](${place.anchor})`;
    return `[${whole}](${relative(dirname(page), place.page)}${place.anchor})`;
  };
  const linkLine = (line) => {
    const fields = new Set([...line.matchAll(FIELD)].map(([, first]) => first));
    return line.replace(/(?<!\[)`([^`]+)`/g, (whole, inner) => link(whole, inner, fields));
  };
  return body
    .split(/(```[\s\S]*?```|^#.*$)/m)
    .map((part) => (/^(```|#)/.test(part) ? part : part.replace(/.+/g, linkLine)))
    .join('')
    .replaceAll(/\n{3,}/g, '\n\n');
}

/** Returns a page with its generated parts as they should be. */
export function rendered(text, page) {
  return text.replaceAll(MARK, (whole, kind, name, where, given) => {
    const settings = Object.fromEntries(
      [...given.matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [key, value]),
    );
    const body = linked(RENDERERS[kind](name, where, settings), page).trim();
    return `${whole.slice(0, whole.indexOf('-->') + 3)}\n\n${body}\n\n<!-- end -->`;
  });
}
