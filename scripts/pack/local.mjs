// npm run pack:local: packs portcullis and its addon for this machine, and prints the commands, for npm
// and for Bun, that install both into a project.
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { readOptions } from '../lib/options.mjs';
import { build, root } from '../lib/project.mjs';
import { addonFolder } from './runtimes.mjs';
import { pack, platformOf } from './tarballs.mjs';

const { into } = readOptions(
  `npm run pack:local -- [options]
  --into FOLDER       where the two packages go (default packed/)`,
  { into: { type: 'string', default: join(root, 'packed') } },
);
build();

// A path without links: some tools compare paths as text.
const work = realpathSync(mkdtempSync(join(tmpdir(), 'portcullis-pack-')));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));
const platform = platformOf(addonFolder());
pack(work, platform);

const folder = resolve(into);
mkdirSync(folder, { recursive: true });
const packed = [platform.tarballs.addon, platform.tarballs.main].map((file) => {
  cpSync(join(work, file), join(folder, file));
  return join(folder, file);
});
const files = packed.join(' ');
console.log(`\nIn your project, without portcullis in its package.json:

  npm install ${files}
  bun add ${files}
`);
