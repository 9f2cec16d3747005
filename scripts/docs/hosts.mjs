// Renders the examples of docs/hosts: the region `example` of a tested server of hosts/.
import { readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import { root } from '../lib/project.mjs';
import { problems } from './problems.mjs';

const REGION = /\/\/#region example\n([\s\S]*?)\/\/#endregion/;
/** The names that a test gives, and the values that a page shows in their place. */
const SHOWN = [
  [/\bportcullis\(options\)/g, 'portcullis({ limits: { maxConnectionsPerIp: 10 } })'],
  [
    /\bportcullis<Request>\(options\)/g,
    'portcullis<Request>({ limits: { maxConnectionsPerIp: 10 } })',
  ],
  [/\blisten\(port\b/g, 'listen(3000'],
  [/([{,]\s*)port(?=\s*[,}])/g, '$1port: 3000'],
  // Two versions of one package have two names there.
  [/'(@hono\/node-server)-2'/g, "'$1'"],
];

/**
 * Returns the example of a server as a block of code.
 * @param name path of the server's file in hosts/
 */
export function hostExample(name) {
  const [, code] = REGION.exec(readFileSync(join(root, 'hosts', name), 'utf8')) ?? [];
  if (code === undefined) {
    problems.push(`hosts/${name} has no region "example"`);
    return '';
  }
  const shown = SHOWN.reduce((text, [from, to]) => text.replaceAll(from, to), code);
  return `\`\`\`${extname(name) === '.ts' ? 'ts' : 'js'}\n${shown}\`\`\``;
}
