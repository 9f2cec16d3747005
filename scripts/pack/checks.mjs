// Runs checks one by one: a line for each, and their counts.
import { spawnSync } from 'node:child_process';
import { basename } from 'node:path';

export const counts = { passed: 0, failed: 0, skipped: 0 };

/**
 * Runs a check and prints its line. The check fails if `work` throws. Text that `work` returns is
 * printed beside the title.
 * @returns true if it passed
 */
export function check(title, work) {
  const beganMs = performance.now();
  try {
    const text = work();
    counts.passed++;
    const seconds = (performance.now() - beganMs) / 1000;
    const detail = text === undefined ? '' : `: ${text}`;
    console.log(`ok    ${title}${detail}${seconds < 1 ? '' : ` (${seconds.toFixed(0)} s)`}`);
    return true;
  } catch (error) {
    counts.failed++;
    console.log(`FAIL  ${title}: ${error.message.trim().replaceAll('\n', '\n        ')}`);
    return false;
  }
}

export function skip(title, reason) {
  counts.skipped++;
  console.log(`skip  ${title}: ${reason}`);
}

/** Fails the check under way unless a condition holds. */
export function demand(ok, message) {
  if (!ok) throw new Error(message);
}

/** Returns the output of a command; fails the check under way unless it ends with code 0. */
export function output(command, args, cwd, env = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd,
    shell: process.platform === 'win32' && !command.endsWith('.exe'),
    encoding: 'utf8',
    timeout: 120_000,
    maxBuffer: 1 << 27,
    env: { ...process.env, NODE_OPTIONS: '', NO_COLOR: '1', ...env },
  });
  const text = `${stdout ?? ''}${stderr ?? ''}`;
  demand(
    status === 0,
    `${basename(command)} ${args.join(' ')} ended with ${status ?? error?.message}:\n${text.slice(-2000)}`,
  );
  return text;
}
