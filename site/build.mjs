// npm run site: builds the documentation site into site/dist. It installs the tools of this folder,
// gathers the pages in site/content, lets TypeDoc write the reference there, builds the site with
// VitePress, and checks the result: each anchor exists, and no page asks for anything of another host.
import { existsSync, rmSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, execute, fail, root } from '../scripts/lib/project.mjs';
import { readOptions } from '../scripts/lib/options.mjs';
import { browse } from './browse.mjs';
import { problemsOf } from './check.mjs';
import { gather } from './gather.mjs';

const { browse: isBrowsed, shots } = readOptions(
  `npm run site -- [options]
  --browse        opens pages in Chromium, in both widths and themes
  --shots FOLDER  the same, with screenshots`,
  { browse: { type: 'boolean', default: false }, shots: { type: 'string' } },
);
const here = dirname(fileURLToPath(import.meta.url));
const content = join(here, 'content');
const dist = join(here, 'dist');
const run = (name, ...args) =>
  execute(process.execPath, [join(here, 'node_modules', ...name), ...args], { cwd: here });

// The reference is made of the declarations in dist/.
build();
const installed = join(here, 'node_modules', '.package-lock.json');
const changedMs = (path) => (existsSync(path) ? statSync(path).mtimeMs : 0);
if (changedMs(installed) < changedMs(join(here, 'package-lock.json')))
  execute(
    'npm',
    ['install', '--no-save', '--no-audit', '--no-fund', '--ignore-scripts', '--prefer-offline'],
    { cwd: here },
  );
for (const folder of [content, dist]) rmSync(folder, { recursive: true, force: true });
const stray = gather(root, content);
if (stray.length > 0) fail(`links that lead nowhere:\n${stray.join('\n')}`);
run(['typedoc', 'bin', 'typedoc'], '--logLevel', 'Warn', '--treatWarningsAsErrors');
run(['vitepress', 'bin', 'vitepress.js'], 'build', '.');
const problems = problemsOf(dist);
if (problems.length > 0) fail(`the site is built, but:\n${problems.join('\n')}`);
if (isBrowsed || shots !== undefined) await browse(dist, shots);
console.log('site/dist is built: serve it with "npx vitepress preview" in site/');
