/**
 * The check that this runtime is new enough. Every entry imports this module first, in CommonJS too
 * (see `scripts/bundles.mjs`): the check has to run before an import that an old runtime does not
 * know.
 */

/** Versions of the runtime, as in `process.versions`. */
interface Versions {
  readonly node?: string | undefined;
  readonly bun?: string | undefined;
}

function isBefore(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor < major || (ownMajor === major && ownMinor < minor);
}

/**
 * Returns a sentence that says why a runtime is too old and how to update it, or `undefined`.
 * @internal
 */
export function runtimeProblem({ node = '0', bun }: Versions): string | undefined {
  if (bun !== undefined)
    return isBefore(bun, 1, 3)
      ? `portcullis needs Bun 1.3 or newer and this is ${bun}: update Bun.`
      : undefined;
  if (isBefore(node, 20, 19))
    return `portcullis needs Node.js 20.19 or newer and this is ${node}: update Node.js.`;
  return undefined;
}

/**
 * Throws if this runtime is too old.
 *
 * @throws ERR_RUNTIME_TOO_OLD
 * @internal
 */
export function checkRuntime(): void {
  const problem = runtimeProblem(process.versions);
  // Not a PortcullisError: this module must not import any other.
  if (problem !== undefined)
    throw Object.assign(new Error(problem), {
      name: 'PortcullisError',
      code: 'ERR_RUNTIME_TOO_OLD',
    });
}

checkRuntime();
