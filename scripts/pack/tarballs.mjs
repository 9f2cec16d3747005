// Packs portcullis and its addon as a release does, and checks the contents of both packages.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { json, root } from '../lib/project.mjs';
import { NOTICES, prepare, unfit } from '../release.mjs';
import { demand, output } from './checks.mjs';

/** The files of the repository that a release needs. */
const LISTED = [
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
/** Paths of this machine, which no packed file may hold. */
const MACHINE = [
  root.replace(/[\\/]$/, ''),
  homedir(),
  process.env.CARGO_HOME,
  process.env.RUSTUP_HOME,
].filter((path) => path !== undefined && path.length > 3);
/** Scripts that npm runs on the machine of a user. */
const INSTALL_SCRIPTS = ['preinstall', 'install', 'postinstall', 'prepare'];
/** The type of an ELF section that holds symbols. */
const SHT_SYMTAB = 2;

/** Returns the folder of npm/ for a target of the compiler. */
function folderOf(triple) {
  const arch = triple.startsWith('x86_64') ? 'x64' : 'arm64';
  if (triple.includes('apple')) return `darwin-${arch}`;
  if (triple.includes('windows')) return `win32-${arch}-msvc`;
  return `linux-${arch}-${triple.endsWith('musl') ? 'musl' : 'gnu'}`;
}

/**
 * Returns what is packed for one platform: its folder of `npm/`, its addon, the name of its package,
 * and the file names of both tarballs.
 * @param addon this machine's if not given
 */
export function platformOf(folder, addon) {
  const { name, version, napi } = json(join(root, 'package.json'));
  const fileOf = (named) => `${named.replace('@', '').replace('/', '-')}-${version}.tgz`;
  const named = `${napi.packageName}-${folder}`;
  return {
    folder,
    addon: addon ?? join(root, 'native', `${napi.binaryName}.${folder}.node`),
    package: named,
    tarballs: { main: fileOf(name), addon: fileOf(named) },
  };
}

/** Copies the repository, with the addon of one platform only: this machine has no other. */
function copyRepository(copy, { folder, addon }) {
  for (const path of LISTED.filter((path) => existsSync(join(root, path))))
    cpSync(join(root, path), join(copy, path), { recursive: true });
  for (const file of readdirSync(join(copy, 'native')))
    if (file.endsWith('.node')) rmSync(join(copy, 'native', file));
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'), 'junction');
  const manifest = json(join(copy, 'package.json'));
  manifest.napi.targets = manifest.napi.targets.filter((triple) => folderOf(triple) === folder);
  manifest.repository = { type: 'git', url: 'git+https://git.example/portcullis.git' };
  writeFileSync(join(copy, 'package.json'), JSON.stringify(manifest, null, 2));
  for (const other of readdirSync(join(copy, 'npm')))
    if (other !== folder) rmSync(join(copy, 'npm', other), { recursive: true });
  mkdirSync(join(copy, 'artifacts'));
  cpSync(addon, join(copy, 'artifacts', basename(addon)));
}

/**
 * Packs both packages into the folder `work`. A copy of the repository takes the changes of a
 * release: the repository's own package.json names no packages of binaries.
 */
export function pack(work, platform) {
  const copy = join(work, 'copy');
  copyRepository(copy, platform);
  prepare(copy);
  const { version, optionalDependencies } = json(join(copy, 'package.json'));
  demand(
    optionalDependencies?.[platform.package] === version,
    `${platform.package} is not among the optionalDependencies`,
  );
  const reason = unfit(copy);
  demand(reason === undefined, reason);
  for (const from of [copy, join(copy, 'npm', platform.folder)])
    output('npm', ['pack', '--pack-destination', work, '--silent'], from);
}

/** Unpacks a tarball beside itself; returns the paths of its files. */
function filesOf(work, tarball) {
  const into = join(work, `look-${basename(tarball)}`);
  mkdirSync(into);
  output('tar', ['xzf', basename(tarball), '-C', basename(into)], work);
  return readdirSync(into, { recursive: true, withFileTypes: true }).flatMap((entry) =>
    entry.isFile() ? [join(entry.parentPath ?? entry.path, entry.name)] : [],
  );
}

/**
 * Checks a packed file: no path of this machine, no source map, no script that runs on a user's
 * machine.
 */
function checkFile(path) {
  const shortened = path.slice(path.indexOf('package') + 8);
  const text = readFileSync(path, 'latin1');
  const found = MACHINE.find((place) => text.includes(place));
  demand(found === undefined, `${shortened} holds a path of this machine: ${found}`);
  demand(
    !shortened.endsWith('.map') && !/^\/\/# sourceMappingURL/m.test(text),
    `${shortened} is, or names, a source map`,
  );
  if (basename(path) !== 'package.json' || shortened.startsWith('native')) return;
  for (const script of INSTALL_SCRIPTS)
    demand(
      json(path).scripts?.[script] === undefined,
      `it has a script "${script}", which users would run`,
    );
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(2)} MB`;

/** Checks every file of a tarball; returns their number and their size. */
export function checkTarball(work, tarball) {
  const files = filesOf(work, tarball);
  const notices = files.find((path) => basename(path) === NOTICES);
  demand(
    notices !== undefined && readFileSync(notices).equals(readFileSync(join(root, NOTICES))),
    `it does not hold ${NOTICES} as it is`,
  );
  files.forEach(checkFile);
  const bytes = files.reduce((sum, path) => sum + statSync(path).size, 0);
  return `${files.length} files, ${megabytes(bytes)}, packed ${megabytes(statSync(tarball).size)}`;
}

/** Returns the types of the sections of a little-endian ELF-64 file; none of another format. */
function elfSections(bytes) {
  if (bytes.toString('latin1', 0, 4) !== '\x7fELF') return [];
  const [from, size, count] = [
    Number(bytes.readBigUInt64LE(0x28)),
    bytes.readUInt16LE(0x3a),
    bytes.readUInt16LE(0x3c),
  ];
  return Array.from({ length: count }, (_, at) => bytes.readUInt32LE(from + at * size + 4));
}

/** Checks that the addon is stripped and needs no newer glibc than `maxGlibc`; returns its size. */
export function checkAddon(addon, maxGlibc) {
  const bytes = readFileSync(addon);
  demand(!elfSections(bytes).includes(SHT_SYMTAB), 'it is not stripped');
  const minors = [...bytes.toString('latin1').matchAll(/GLIBC_2\.(\d+)/g)].map(([, minor]) =>
    Number(minor),
  );
  const glibc = minors.reduce((most, minor) => Math.max(most, minor), 0);
  if (maxGlibc !== undefined)
    demand(
      glibc <= Number(maxGlibc.split('.')[1]),
      `it needs glibc 2.${glibc}, more than ${maxGlibc}`,
    );
  const size = `${megabytes(bytes.length)}, gzip ${megabytes(gzipSync(bytes).length)}`;
  return glibc === 0 ? size : `${size}, needs glibc 2.${glibc}`;
}
