// Writes the generated parts of docs/: tables of options and fields, classes and types from the
// public declarations; failures, exposed metrics and shared cells from the core. Each part is
// between a mark such as `<!-- options: Name -->` and `<!-- end -->`; the text outside of the marks
// is written by hand.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pages, rendered } from './docs/pages.mjs';
import { problems } from './docs/problems.mjs';
import { readOptions } from './lib/options.mjs';
import { root } from './lib/project.mjs';

export { fieldsOf, splitDefault } from './docs/declarations.mjs';
export { documentedOptions, pages, rendered } from './docs/pages.mjs';
export { problems } from './docs/problems.mjs';

function main() {
  const { check: isCheck } = readOptions(
    'node scripts/docs.mjs [options]\n  --check    writes nothing; fails if a page is stale',
    { check: { type: 'boolean', default: false } },
  );
  const stale = pages()
    .map((page) => ({ page, text: readFileSync(join(root, page), 'utf8') }))
    .map(({ page, text }) => ({ page, text, wanted: rendered(text, page) }))
    .filter(({ text, wanted }) => text !== wanted);
  for (const problem of problems) console.error(`portcullis: docs: ${problem}`);
  if (problems.length > 0) return false;
  for (const { page, wanted } of stale) {
    if (isCheck) console.error(`portcullis: ${page} differs from the code: run "npm run docs"`);
    else writeFileSync(join(root, page), wanted);
  }
  return !isCheck || stale.length === 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main() ? 0 : 1;
