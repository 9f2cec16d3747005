// The scripts of `src/cluster/lua`, put together as `src/cluster/script.rs` does it, for members that are not there.
import { readFileSync } from 'node:fs';

const PARTS = {
  join: ['common', 'join'],
  activate: ['common', 'owner', 'numbered', 'activate'],
};
const read = (name) =>
  readFileSync(new URL(`../../src/cluster/lua/${name}.lua`, import.meta.url), 'utf8');

/** Returns the text of a script. */
export const scriptOf = (name) =>
  PARTS[name]
    .map(read)
    .join('\n')
    .split('\n')
    .map((line) => line.split('--')[0].trim())
    .filter((line) => line !== '')
    .join('\n');
