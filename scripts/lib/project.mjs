// The project's root folder, and the processes that run in it.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The project's root folder; ends with a separator. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Returns the path of a program that `npm ci` installs. */
export const tool = (name) => join(root, 'node_modules', '.bin', name);

export const json = (path) => JSON.parse(readFileSync(path, 'utf8'));

/** Prints a sentence as an error and ends the process. */
export function fail(sentence, exitCode = 1) {
  console.error(`portcullis: ${sentence}`);
  process.exit(exitCode);
}

/**
 * Runs a command to its end, with its output on this terminal.
 * @param options.stdout `'pipe'` returns the command's output instead of printing it
 * @throws {Error} with the command and its `exitCode`, if that is not 0
 */
export function execute(command, args, { cwd = root, env = process.env, stdout = 'inherit' } = {}) {
  const child = spawnSync(command, args, {
    cwd,
    env,
    encoding: 'utf8',
    stdio: ['inherit', stdout, 'inherit'],
    // On Windows, npm installs programs as scripts, which only a shell runs.
    shell: process.platform === 'win32' && !command.endsWith('.exe'),
  });
  if (child.status === 0) return child.stdout;
  const sentence = `${command} ${args.join(' ')} ended with ${child.status ?? child.error?.message}`;
  throw Object.assign(new Error(sentence), { exitCode: child.status ?? 1 });
}

/**
 * Calls `execute`; ends this process if the command fails, with the same exit code or with
 * `exitCode`.
 */
export function run(command, args, { exitCode, ...options } = {}) {
  try {
    return execute(command, args, options);
  } catch (error) {
    return process.exit(exitCode ?? error.exitCode);
  }
}

/** Builds the parts of the project that are stale; ends this process if that fails. */
export const build = (exitCode) =>
  run(process.execPath, [join(root, 'scripts', 'build.mjs')], { exitCode });

/** Returns the crates of the project and their dependencies, as `cargo metadata` lists them. */
export function cargoMetadata(...args) {
  const { status, stdout, stderr } = spawnSync(
    'cargo',
    ['metadata', '--locked', '--format-version', '1', ...args],
    { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 },
  );
  return status === 0 ? JSON.parse(stdout) : fail(`cargo metadata failed: ${stderr}`);
}
