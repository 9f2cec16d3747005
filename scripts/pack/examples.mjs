// Copies each folder of examples/, installs it with the packed portcullis as a user does, starts it,
// and connects a client.
import { cpSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { json, root, tool } from '../lib/project.mjs';
import { check, demand, output, skip } from './checks.mjs';

const FROM = join(root, 'examples');
const QUIET = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts'];
/** The path of the WebSocket of an example, if it is not `/`. */
const SOCKETS = { builder: '/ws', elysia: '/ws' };
/**
 * The status of the handshake, if it is not 101: a client without a token is refused; the main thread
 * of the workers answers with the counts.
 */
const STATUSES = { tokens: '401', workers: '200' };

function checkExample(work, tarballs, name) {
  const into = join(work, `example-${name}`);
  cpSync(join(FROM, name), into, { recursive: true });
  output('npm', ['install', ...QUIET, tarballs.addon, tarballs.main], into);
  const [command, file] = json(join(FROM, name, 'package.json')).scripts.start.split(' ');
  const runtime = command === 'bun' ? tool('bun') : process.execPath;
  const text = output(
    process.execPath,
    [join(root, 'scripts', 'pack', 'ask-example.mjs'), runtime, file, SOCKETS[name] ?? '/'],
    into,
    { NAPI_RS_NATIVE_LIBRARY_PATH: '', PORT: '0' },
  );
  const wanted = `WebSocket ${STATUSES[name] ?? '101'}`;
  demand(text.includes(wanted), `it said: ${text.slice(-600)}`);
  return wanted;
}

/** Checks that every folder of examples/ installs and starts. */
export function checkExamples(work, tarballs) {
  const folders = readdirSync(FROM, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const { name } of folders) {
    const { start } = json(join(FROM, name, 'package.json')).scripts;
    if (start.startsWith('bun ') && !existsSync(tool('bun')))
      skip(`examples/${name}`, 'the development package bun is not installed');
    else check(`examples/${name}, copied`, () => checkExample(work, tarballs, name));
  }
}
