// Checks the built site: VitePress finds dead pages, but neither dead anchors nor requests to others.
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const decoded = (text) => decodeURIComponent(text.replaceAll('&amp;', '&'));

/** Returns sentences about dead anchors, and about what a page would load from another host. */
export function problemsOf(dist) {
  const names = readdirSync(dist, { recursive: true });
  const html = new Map(
    names
      .filter((name) => name.endsWith('.html'))
      .map((name) => [name, readFileSync(join(dist, name), 'utf8')]),
  );
  const ids = new Map(
    [...html].map(([name, text]) => [
      name,
      new Set([...text.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => decoded(id))),
    ]),
  );
  const problems = [];
  for (const [name, text] of html) {
    for (const [tag] of text.matchAll(/<(?:link|script|img|iframe|source|audio|video)\b[^>]*>/g))
      if (/\s(?:src|href|srcset)="(?:https?:)?\/\//.test(tag)) problems.push(`${name}: ${tag}`);
    for (const [, href] of text.matchAll(/<a\b[^>]*\shref="([^"]+)"/g)) {
      if (/^[a-z]+:/.test(href)) continue;
      const [path, anchor] = href.split('#');
      const file = path === '' ? name : pathOf(name, decoded(path));
      if (!existsSync(join(dist, file))) problems.push(`${name}: there is no ${href}`);
      else if (anchor && ids.has(file) && !ids.get(file).has(decoded(anchor)))
        problems.push(`${name}: there is no ${href}`);
    }
  }
  for (const name of names.filter((name) => name.endsWith('.css')))
    for (const [url] of readFileSync(join(dist, name), 'utf8').matchAll(
      /(?:url\(|@import\s*)["']?(?:https?:)?\/\/[^)"']*/g,
    ))
      problems.push(`${name}: ${url}`);
  return problems;
}

/** Returns the file that a link of a page leads to. */
function pathOf(name, path) {
  const base = process.env.SITE_BASE ?? '/';
  const found = path.startsWith('/')
    ? path.slice(path.startsWith(base) ? base.length : 1)
    : normalize(join(dirname(name), path));
  return found === '' || found.endsWith('/') ? `${found}index.html` : found;
}
