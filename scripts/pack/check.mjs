// Packs portcullis and its addon for this machine as a release does, installs both into empty
// projects, and checks that they work there: a line for each check, then a line of counts.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { readOptions } from '../lib/options.mjs';
import { build, fail, json, root, tool } from '../lib/project.mjs';
import { obstacles, unfit } from '../release.mjs';
import { checkBundlers } from './bundlers.mjs';
import { check, counts, demand, output, skip } from './checks.mjs';
import { checkExamples } from './examples.mjs';
import { addonFolder, oldRuntimes, runtimes } from './runtimes.mjs';
import { checkAddon, checkTarball, pack, platformOf } from './tarballs.mjs';
import { typeProjects } from './type-projects.mjs';

const USAGE = `npm run pack:check -- [options]
  --only probe        no linters, types and bundlers: only that it loads and works on each runtime
  --only examples     only the folders of examples/
  --only bundlers     only the bundlers and package managers of docs/bundlers.md
  --addon FILE        an addon from elsewhere, instead of this machine's
  --max-glibc 2.17    fails if the addon needs a newer glibc
  --build             builds the stale parts first; npm run pack:check passes it already`;
const given = readOptions(USAGE, {
  only: { type: 'string', of: ['probe', 'examples', 'bundlers'] },
  addon: { type: 'string' },
  'max-glibc': { type: 'string' },
  build: { type: 'boolean', default: false },
});
const maxGlibc = given['max-glibc'];
if (maxGlibc !== undefined && !/^2\.\d+$/.test(maxGlibc))
  fail('--max-glibc must be a version such as 2.17.');
if (given.addon !== undefined && !existsSync(given.addon))
  fail(`--addon: there is no file ${given.addon}.`);
if (given.build) build();

// A path without links: some tools compare paths as text.
const work = realpathSync(mkdtempSync(join(tmpdir(), 'portcullis-pack-')));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

const { version } = json(join(root, 'package.json'));
const platform = platformOf(addonFolder(), given.addon);
const { folder, addon } = platform;
const tarballs = {
  main: join(work, platform.tarballs.main),
  addon: join(work, platform.tarballs.addon),
};
const bun = tool('bun');
/** An environment in which the addon is looked up in the installed packages only. */
const bare = { NAPI_RS_NATIVE_LIBRARY_PATH: '' };
const QUIET = ['--no-audit', '--no-fund'];

/** Installs both tarballs into an empty project. */
function project(title, installer, args) {
  const into = join(work, title);
  mkdirSync(into);
  writeFileSync(
    join(into, 'package.json'),
    JSON.stringify({ name: 'empty', version: '1.0.0', private: true }),
  );
  output(installer, [...args, tarballs.addon, tarballs.main], into, {
    npm_config_audit: 'false',
    npm_config_fund: 'false',
  });
  return into;
}

/** Links development packages of this repository into a project. */
function lend(into, ...packages) {
  for (const lent of packages) {
    const at = join(into, 'node_modules', lent);
    mkdirSync(dirname(at), { recursive: true });
    if (!existsSync(at)) symlinkSync(join(root, 'node_modules', lent), at, 'junction');
  }
}

function checkRelease() {
  check('the obstacles to a release are named', () => {
    demand(
      obstacles(root, `v${version}x`).some((sentence) => sentence.includes('the tag is')),
      'a wrong tag passes',
    );
    demand(
      unfit(root)?.includes('does not name the binaries') === true,
      'package.json would be published without its binaries',
    );
  });
}

function checkTarballs() {
  check('tarball of portcullis', () => checkTarball(work, tarballs.main));
  check(`tarball of ${platform.package}`, () => checkTarball(work, tarballs.addon));
  check('the addon', () => checkAddon(addon, maxGlibc));
  if (given.only !== undefined) return;
  check('publint --strict', () => void output(tool('publint'), ['--strict', tarballs.main], root));
  check('attw, strict profile', () => void output(tool('attw'), [tarballs.main], root));
}

/** Installs the packages in every way; returns the projects by title. */
function install() {
  const projects = new Map();
  const add = (title, installer, args) =>
    check(`installs: ${title}`, () => {
      projects.set(title, project(title.replaceAll(/[^\w]+/g, '-'), installer, args));
    });
  add('npm', 'npm', ['install', ...QUIET]);
  add('npm --ignore-scripts', 'npm', ['install', ...QUIET, '--ignore-scripts']);
  if (existsSync(bun)) add('bun', bun, ['add']);
  else skip('installs: bun', 'the development package bun is not installed');
  const npm = projects.get('npm');
  if (npm !== undefined)
    check('npm ci of the installed packages', () => {
      output('npm', ['ci', ...QUIET, '--ignore-scripts'], npm);
    });
  return projects;
}

/** Runs the probe in every project, on every runtime. */
function checkRuntimes(projects) {
  const probe = join(root, 'scripts', 'pack', 'probe.mjs');
  for (const into of projects.values()) {
    lend(into, 'ws', 'elysia');
    cpSync(probe, join(into, 'probe.mjs'));
  }
  for (const { title, command, missing } of runtimes()) {
    if (command === undefined) {
      skip(title, missing);
      continue;
    }
    for (const how of ['import', 'require']) {
      check(`${title}, by ${how}, all entries`, () => {
        for (const into of projects.values()) output(command, ['probe.mjs', how], into, bare);
      });
    }
  }
}

/** Loads portcullis and prints the error, if there is one. */
const LOADS = {
  import:
    "import('portcullis').then(() => console.log('loaded'), (error) => console.log(error.name, error.code, error.message))",
  require:
    "try { require('portcullis'); console.log('loaded') } catch (error) { console.log(error.name, error.code, error.message) }",
};

/** Demands that loading portcullis fails with a code and a sentence. */
function demandError(command, into, source, code, pattern) {
  const text = output(command, ['-e', source], into, bare);
  demand(
    text.includes(`PortcullisError ${code} `) && pattern.test(text),
    `it said: ${text.slice(-600)}`,
  );
}

function checkOldRuntimes(npm) {
  for (const { title, command, missing, pattern } of oldRuntimes()) {
    const named = `${title} is told to update`;
    if (command === undefined) skip(named, missing);
    else
      check(named, () => {
        for (const source of Object.values(LOADS))
          demandError(command, npm, source, 'ERR_RUNTIME_TOO_OLD', pattern);
      });
  }
}

function checkMissingAddon() {
  const without = project('without', 'npm', ['install', ...QUIET, '--omit=optional']);
  rmSync(join(without, 'node_modules', platform.package), { recursive: true, force: true });
  for (const [title, command] of [
    ['Node', process.execPath],
    ['Bun', bun],
  ]) {
    if (!existsSync(command)) continue;
    for (const [how, source] of Object.entries(LOADS))
      check(`${title}, by ${how}: a missing addon is named`, () =>
        demandError(command, without, source, 'ERR_ADDON_MISSING', new RegExp(platform.package)),
      );
  }
}

/** Returns the errors of the compiler in the project's own files and in portcullis. */
function declarationErrors(into) {
  const { stdout } = spawnSync(tool('tsc'), ['-p', into, '--noEmit'], {
    cwd: into,
    encoding: 'utf8',
    maxBuffer: 1 << 27,
    shell: process.platform === 'win32',
  });
  return stdout
    .split('\n')
    .filter(
      (line) =>
        /error TS/.test(line) &&
        (/^[\w-]+\.c?ts/.test(line) || /node_modules[\\/]portcullis[\\/]/.test(line)),
    );
}

function checkTypes(npm) {
  for (const { title, files, config, packages } of typeProjects()) {
    check(`types: ${title}`, () => {
      const into = join(npm, title.replaceAll(/\W+/g, '-'));
      mkdirSync(into);
      const written = { ...files, 'tsconfig.json': JSON.stringify(config) };
      for (const [path, text] of Object.entries(written)) writeFileSync(join(into, path), text);
      lend(npm, ...packages);
      // Errors in other declarations do not count: Elysia's do not pass so strict a check.
      const errors = declarationErrors(into);
      demand(errors.length === 0, errors.join('\n'));
    });
  }
}

function main() {
  if (folder === undefined || !existsSync(addon))
    return skip(
      'everything',
      `there is no addon for ${process.platform}-${process.arch} at ${basename(addon)}`,
    );
  checkRelease();
  if (!check('packed as a release packs', () => pack(work, platform))) return undefined;
  if (given.only === 'bundlers') return checkBundlers(work, tarballs, platform.package);
  if (given.only === 'examples') return checkExamples(work, tarballs);
  checkTarballs();
  const projects = install();
  const npm = projects.get('npm');
  if (npm === undefined) return undefined;
  checkRuntimes(projects);
  if (given.only === 'probe') return undefined;
  checkOldRuntimes(npm);
  checkMissingAddon();
  checkTypes(npm);
  checkExamples(work, tarballs);
  return checkBundlers(work, tarballs, platform.package);
}

main();
console.log(`pack: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;
