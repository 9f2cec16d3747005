// Packs portcullis and its binary for this machine as a release does, installs both into empty projects,
// and looks whether they work there: one line a check, then a line of counts.
import { spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { gzipSync } from 'node:zlib';
import { NOTICES, obstacles, prepare, unfit } from '../release.mjs';
import { addonFolder, oldRuntimes, runtimes } from './runtimes.mjs';
import { typeProjects } from './type-projects.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const USAGE = `npm run pack:check -- [options]
  --only probe        neither linters nor types: whether it loads and works on each runtime
  --addon FILE        a binary from elsewhere, instead of this machine's
  --max-glibc 2.17    fails where the binary asks for a newer glibc
  --build             builds what is stale first; npm run pack:check says so already`;
const given = options();
const counts = { passed: 0, failed: 0, skipped: 0 };

/** What it was told; ends it with a sentence where that makes no sense. */
function options() {
  const wrong = (sentence) => {
    console.error(`portcullis: ${sentence}`);
    process.exit(1);
  };
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        'max-glibc': { type: 'string' },
        addon: { type: 'string' },
        only: { type: 'string' },
        build: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }));
  } catch (error) {
    return wrong(`${error.message}\n\n${USAGE}`);
  }
  if (values.help) {
    console.log(USAGE);
    process.exit(0);
  }
  if (values['max-glibc'] !== undefined && !/^2\.\d+$/.test(values['max-glibc']))
    wrong('--max-glibc must be a version such as 2.17');
  if (values.only !== undefined && values.only !== 'probe') wrong('--only must be probe');
  if (values.addon !== undefined && !existsSync(values.addon))
    wrong(`--addon: there is no file ${values.addon}`);
  if (
    values.build &&
    spawnSync(process.execPath, ['scripts/build.mjs'], { cwd: root, stdio: 'inherit' }).status !== 0
  )
    process.exit(1);
  return values;
}

/** Runs one check; what it throws is its failure, what it returns is said with it. */
function check(title, work) {
  const since = process.hrtime.bigint();
  try {
    const said = work();
    counts.passed++;
    const seconds = Number(process.hrtime.bigint() - since) / 1e9;
    console.log(
      `ok    ${title}${said === undefined ? '' : `: ${said}`}${seconds < 1 ? '' : ` (${seconds.toFixed(0)} s)`}`,
    );
    return true;
  } catch (error) {
    counts.failed++;
    console.log(`FAIL  ${title}: ${error.message.trim().replaceAll('\n', '\n        ')}`);
    return false;
  }
}

function skip(title, reason) {
  counts.skipped++;
  console.log(`skip  ${title}: ${reason}`);
}

function demand(ok, message) {
  if (!ok) throw new Error(message);
}

/** What a command printed; it has to end with `expected`. */
function output(command, args, cwd, { env = {}, expected = 0, seconds = 120 } = {}) {
  const shell = process.platform === 'win32' && !command.endsWith('.exe');
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    shell,
    encoding: 'utf8',
    timeout: seconds * 1000,
    maxBuffer: 1 << 27,
    env: { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1', ...env },
  });
  const text = `${stdout ?? ''}${stderr ?? ''}`;
  demand(
    status === expected,
    `${basename(command)} ${args.join(' ')} ended with ${status ?? error?.message}:\n${text.slice(-2000)}`,
  );
  return text;
}

const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const tool = (name) => join(root, 'node_modules', '.bin', name);
const bare = { NAPI_RS_NATIVE_LIBRARY_PATH: '' };
// A path without links: some tools compare paths as text.
const work = realpathSync(mkdtempSync(join(tmpdir(), 'portcullis-pack-')));
process.on('exit', () => rmSync(work, { recursive: true, force: true }));

// What a release does, in a copy: the repository's own package.json names no packages of binaries.
const copy = join(work, 'copy');
const { version, name, napi } = json(join(root, 'package.json'));
const folder = addonFolder();
const packageOfAddon = `${napi.packageName}-${folder}`;
const addon = given.addon ?? join(root, 'native', `${napi.binaryName}.${folder}.node`);
const tarballs = {
  main: join(work, `${name}-${version}.tgz`),
  addon: join(work, `${packageOfAddon.replace('@', '').replace('/', '-')}-${version}.tgz`),
};

function pack() {
  const listed = [
    'package.json',
    'Cargo.toml',
    'npm',
    'dist',
    'index.d.ts',
    'native',
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'SECURITY.md',
    NOTICES,
    'scripts',
  ];
  for (const path of listed.filter((path) => existsSync(join(root, path))))
    cpSync(join(root, path), join(copy, path), { recursive: true });
  for (const file of readdirSync(join(copy, 'native')))
    if (file.endsWith('.node')) rmSync(join(copy, 'native', file));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'junction');
  const manifest = json(join(copy, 'package.json'));
  const target = { x64: 'x86_64', arm64: 'aarch64' }[process.arch];
  // Of seven binaries this machine has one.
  manifest.napi.targets = manifest.napi.targets.filter(
    (triple) => triple.startsWith(target) && tripleFolder(triple) === folder,
  );
  manifest.repository = { type: 'git', url: 'git+https://git.example/portcullis.git' };
  writeFileSync(join(copy, 'package.json'), JSON.stringify(manifest, null, 2));
  for (const other of readdirSync(join(copy, 'npm')))
    if (other !== folder) rmSync(join(copy, 'npm', other), { recursive: true });
  mkdirSync(join(copy, 'artifacts'));
  cpSync(addon, join(copy, 'artifacts', basename(addon)));
  prepare(copy);
  demand(
    json(join(copy, 'package.json')).optionalDependencies?.[packageOfAddon] === version,
    `${packageOfAddon} is not among the optionalDependencies`,
  );
  demand(unfit(copy) === undefined, unfit(copy) ?? '');
  for (const from of [copy, join(copy, 'npm', folder)])
    output('npm', ['pack', '--pack-destination', work, '--silent'], from);
}

function tripleFolder(triple) {
  const arch = triple.startsWith('x86_64') ? 'x64' : 'arm64';
  if (triple.includes('apple')) return `darwin-${arch}`;
  return triple.includes('windows')
    ? `win32-${arch}-msvc`
    : `linux-${arch}-${triple.endsWith('musl') ? 'musl' : 'gnu'}`;
}

/** All files of a tarball, by path. */
function contents(tarball) {
  const into = join(work, `look-${basename(tarball)}`);
  mkdirSync(into);
  output('tar', ['xzf', basename(tarball), '-C', basename(into)], work);
  return readdirSync(into, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath ?? entry.path, entry.name)] : [],
  );
}

/** Where this was built, as it would stand in a file. */
const MACHINE = [
  root.replace(/[\\/]$/, ''),
  homedir(),
  process.env.CARGO_HOME,
  process.env.RUSTUP_HOME,
].filter((path) => path !== undefined && path.length > 3);

function lookInto(tarball) {
  const files = contents(tarball);
  const notices = files.find((path) => basename(path) === NOTICES);
  demand(
    notices !== undefined && readFileSync(notices).equals(readFileSync(join(root, NOTICES))),
    `it does not hold ${NOTICES} as it is`,
  );
  for (const path of files) {
    const shortened = path.slice(path.indexOf('package') + 8);
    const text = readFileSync(path, 'latin1');
    const found = MACHINE.find((place) => text.includes(place));
    demand(found === undefined, `${shortened} holds a path of this machine: ${found}`);
    demand(
      !shortened.endsWith('.map') && !/^\/\/# sourceMappingURL/m.test(text),
      `${shortened} is, or names, a source map`,
    );
    if (basename(path) !== 'package.json' || shortened.startsWith('native')) continue;
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
      demand(
        json(path).scripts?.[script] === undefined,
        `it has a script "${script}", which users would run`,
      );
  }
  return `${files.length} files, ${(files.reduce((sum, path) => sum + statSync(path).size, 0) / 1e6).toFixed(2)} MB, packed ${(statSync(tarball).size / 1e6).toFixed(2)} MB`;
}

const SHT_SYMTAB = 2;

/** The types of an ELF file's sections (its header is that of ELF-64, little-endian); none of another format. */
function elfSections(bytes) {
  if (bytes.toString('latin1', 0, 4) !== '\x7fELF') return [];
  const [from, size, count] = [
    Number(bytes.readBigUInt64LE(0x28)),
    bytes.readUInt16LE(0x3a),
    bytes.readUInt16LE(0x3c),
  ];
  return Array.from({ length: count }, (_, at) => bytes.readUInt32LE(from + at * size + 4));
}

function lookAtAddon() {
  const bytes = readFileSync(addon);
  const text = bytes.toString('latin1');
  demand(!elfSections(bytes).includes(SHT_SYMTAB), 'it is not stripped');
  const glibc = [
    ...new Set([...text.matchAll(/GLIBC_2\.(\d+)/g)].map((match) => Number(match[1]))),
  ].reduce((most, minor) => Math.max(most, minor), 0);
  const most = given['max-glibc'];
  if (most !== undefined)
    demand(glibc <= Number(most.split('.')[1]), `it needs glibc 2.${glibc}, more than ${most}`);
  return `${(bytes.length / 1e6).toFixed(2)} MB, gzip ${(gzipSync(bytes).length / 1e6).toFixed(2)} MB${glibc === 0 ? '' : `, needs glibc 2.${glibc}`}`;
}

/** What the compiler has to say of the project's own files and of portcullis. */
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

/** An empty project with both tarballs in it, and what the probe needs beside them. */
function project(title, installer, args) {
  const into = join(work, title);
  mkdirSync(into);
  writeFileSync(
    join(into, 'package.json'),
    JSON.stringify({ name: 'empty', version: '1.0.0', private: true }),
  );
  output(installer, [...args, tarballs.addon, tarballs.main], into, {
    env: { npm_config_audit: 'false', npm_config_fund: 'false' },
  });
  return into;
}

/** Puts development packages of this repository beside what was installed. */
function lend(into, ...packages) {
  for (const lent of packages) {
    const at = join(into, 'node_modules', lent);
    mkdirSync(dirname(at), { recursive: true });
    if (!existsSync(at)) symlinkSync(join(root, 'node_modules', lent), at, 'junction');
  }
}

const RUN_BY_ESM =
  "import('portcullis').then(() => console.log('loaded'), (error) => console.log(error.name, error.code, error.message))";
const RUN_BY_CJS =
  "try { require('portcullis'); console.log('loaded') } catch (error) { console.log(error.name, error.code, error.message) }";

function tells(command, into, source, code, pattern, options) {
  const text = output(command, ['-e', source], into, { env: { ...bare, ...options?.env } });
  demand(
    text.includes(`PortcullisError ${code} `) && pattern.test(text),
    `it said: ${text.slice(-600)}`,
  );
  return text.trim().replace(/^\S+ \S+ /, '');
}

async function main() {
  if (folder === undefined || !existsSync(addon)) {
    skip(
      'everything',
      `there is no binary for ${process.platform}-${process.arch} at ${basename(addon)}`,
    );
    return;
  }
  check('what stands in the way of a release is told', () => {
    const said = obstacles(root, `v${version}x`);
    demand(
      said.some((sentence) => sentence.includes('the tag is')),
      'a wrong tag passes',
    );
    demand(
      unfit(root)?.includes('does not name the binaries') === true,
      'package.json would be published without its binaries',
    );
  });
  if (!check('packed as a release packs', pack)) return;
  check('tarball of portcullis', () => lookInto(tarballs.main));
  check(`tarball of ${packageOfAddon}`, () => lookInto(tarballs.addon));
  check('the addon', lookAtAddon);
  if (given.only === undefined) {
    check(
      'publint --strict',
      () => void output(tool('publint'), ['--strict', tarballs.main], root),
    );
    check('attw, strict profile', () => void output(tool('attw'), [tarballs.main], root));
  }

  const projects = new Map();
  const install = (title, installer, args) =>
    check(
      `installs: ${title}`,
      () => void projects.set(title, project(title.replaceAll(/[^\w]+/g, '-'), installer, args)),
    );
  install('npm', 'npm', ['install', '--no-audit', '--no-fund']);
  install('npm --ignore-scripts', 'npm', [
    'install',
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
  ]);
  const bun = tool('bun');
  if (existsSync(bun)) install('bun', bun, ['add']);
  else skip('installs: bun', 'the development package bun is not installed');
  const npm = projects.get('npm');
  if (npm === undefined) return;
  check(
    'npm ci of what was installed',
    () => void output('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts'], npm),
  );

  const probe = join(root, 'scripts', 'pack', 'probe.mjs');
  for (const into of projects.values()) {
    lend(into, 'ws', 'elysia');
    cpSync(probe, join(into, 'probe.mjs'));
  }
  for (const { title, command, missing } of runtimes(root)) {
    if (command === undefined) {
      skip(title, missing);
      continue;
    }
    for (const how of ['import', 'require']) {
      check(`${title}, by ${how}, all entries`, () => {
        for (const into of projects.values())
          output(command, ['probe.mjs', how], into, { env: bare });
      });
    }
  }
  if (given.only === 'probe') return;

  for (const { title, command, missing, pattern, byRequire } of oldRuntimes(root)) {
    if (command === undefined) skip(`${title} is told to update`, missing);
    else {
      check(`${title} is told to update`, () => {
        for (const source of byRequire === 'only' ? [RUN_BY_CJS] : [RUN_BY_ESM, RUN_BY_CJS])
          tells(command, npm, source, 'ERR_RUNTIME_TOO_OLD', pattern);
      });
    }
  }
  const without = project('without', 'npm', [
    'install',
    '--no-audit',
    '--no-fund',
    '--omit=optional',
  ]);
  rmSync(join(without, 'node_modules', packageOfAddon), { recursive: true, force: true });
  for (const [title, command] of [
    ['Node', process.execPath],
    ['Bun', bun],
  ]) {
    if (!existsSync(command)) continue;
    for (const source of [RUN_BY_ESM, RUN_BY_CJS]) {
      const how = source === RUN_BY_ESM ? 'import' : 'require';
      check(
        `${title}, by ${how}: a missing binary is told`,
        () => void tells(command, without, source, 'ERR_ADDON_MISSING', new RegExp(packageOfAddon)),
      );
    }
  }
  for (const { title, files, config, packages } of typeProjects()) {
    check(`types: ${title}`, () => {
      const into = join(npm, title.replaceAll(/\W+/g, '-'));
      mkdirSync(into);
      for (const [path, text] of Object.entries({
        ...files,
        'tsconfig.json': JSON.stringify(config),
      }))
        writeFileSync(join(into, path), text);
      lend(npm, ...packages);
      // Of declarations that are not ours (Elysia's do not pass so strict a check) nothing is asked.
      const ours = declarationErrors(into);
      demand(ours.length === 0, ours.join('\n'));
    });
  }
}

await main();
console.log(`pack: ${counts.passed} passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;
