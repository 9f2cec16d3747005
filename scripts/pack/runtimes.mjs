// Finds the runtimes on which the package is tried. Missing ones are installed from npm, as
// packages that hold only a binary, into node_modules/.cache.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { json, root, tool } from '../lib/project.mjs';

const onWindows = process.platform === 'win32';
const isMusl =
  process.platform === 'linux' &&
  process.report.getReport().header.glibcVersionRuntime === undefined;

/** Returns the folder of npm/ for this machine; `undefined` without one. */
export function addonFolder() {
  const here = `${process.platform}-${process.arch}`;
  if (process.platform === 'linux')
    return ['x64', 'arm64'].includes(process.arch)
      ? `${here}-${isMusl ? 'musl' : 'gnu'}`
      : undefined;
  return { 'darwin-x64': here, 'darwin-arm64': here, 'win32-x64': `${here}-msvc` }[here];
}

/** Installs a package and returns the command in it, or the reason why it is missing. */
function fetched(name, version, path) {
  const into = join(
    root,
    'node_modules',
    '.cache',
    'portcullis-runtimes',
    `${name.replaceAll(/\W/g, '-')}-${version}`,
  );
  const command = join(into, 'node_modules', name, ...path);
  if (!existsSync(command)) {
    mkdirSync(into, { recursive: true });
    writeFileSync(join(into, 'package.json'), '{ "private": true }');
    const args = [
      'install',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      '--no-package-lock',
      `${name}@${version}`,
    ];
    const { status, stderr } = spawnSync('npm', args, {
      cwd: into,
      encoding: 'utf8',
      shell: onWindows,
    });
    if (status !== 0 || !existsSync(command))
      return {
        missing: `${name}@${version} could not be installed: ${(stderr ?? '').split('\n').find((line) => line.includes('npm error')) ?? 'no binary'}`,
      };
  }
  const { status, stderr } = spawnSync(command, ['--version'], { encoding: 'utf8' });
  return status === 0
    ? { command }
    : { missing: `${name}@${version} does not run here: ${(stderr ?? '').trim().slice(0, 200)}` };
}

function node(version) {
  if (process.versions.node === version || process.versions.node.startsWith(`${version}.`))
    return { command: process.execPath };
  if (isMusl) return { missing: 'the npm packages of Node.js are for glibc' };
  return fetched(`node-${onWindows ? 'win' : process.platform}-${process.arch}`, version, [
    'bin',
    onWindows ? 'node.exe' : 'node',
  ]);
}

function bun(version) {
  const own = join(root, 'node_modules', 'bun', 'package.json');
  if (existsSync(own) && json(own).version.startsWith(version)) return { command: tool('bun') };
  const platform = onWindows ? 'windows' : process.platform;
  const arch = process.arch === 'arm64' ? 'aarch64' : process.arch;
  return fetched(`@oven/bun-${platform}-${arch}${isMusl ? '-musl' : ''}`, version, [
    'bin',
    onWindows ? 'bun.exe' : 'bun',
  ]);
}

/**
 * Returns the supported runtimes: the oldest supported version, and the newest of each release
 * line.
 */
export function runtimes() {
  return [
    // Node 22.11 has no require() of ECMAScript modules: there the CommonJS build stands alone.
    ...['20.19.0', '20', '22.11.0', '22', '24', '26'].map((version) => ({
      title: `Node ${version}`,
      ...node(version),
    })),
    ...['1.3.0', '1.4'].map((version) => ({ title: `Bun ${version}`, ...bun(version) })),
  ];
}

/** Returns the runtimes that are too old, with the error message that they must get. */
export function oldRuntimes() {
  return [
    ...['18.0.0', '18', '20.18.0'].map((version) => ({
      title: `Node ${version}`,
      pattern: /needs Node\.js 20\.19 or newer and this is \d+\.\d+/,
      ...node(version),
    })),
    { title: 'Bun 1.2', pattern: /needs Bun 1\.3 or newer/, ...bun('1.2') },
  ];
}
