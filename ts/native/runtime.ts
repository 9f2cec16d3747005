/**
 * Whether this runtime is new enough. The first import of every entry, and CommonJS too (see
 * `scripts/commonjs.mjs`): it is to speak before anything that an old runtime does not know.
 */

/** The versions of what runs this, as in `process.versions`. */
interface Versions {
  readonly node?: string | undefined;
  readonly bun?: string | undefined;
}

function isBefore(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor < major || (ownMajor === major && ownMinor < minor);
}

/** What is wrong with a runtime, as a sentence that says what to do. @internal */
export function runtimeProblem(
  { node = '0', bun }: Versions,
  byRequire: boolean,
): string | undefined {
  if (bun !== undefined)
    return isBefore(bun, 1, 3)
      ? `portcullis needs Bun 1.3 or newer and this is ${bun}: update Bun.`
      : undefined;
  if (isBefore(node, 20, 19))
    return `portcullis needs Node.js 20.19 or newer and this is ${node}: update Node.js.`;
  // These run it, but do not load ECMAScript modules by require().
  if (byRequire && !isBefore(node, 21, 0) && isBefore(node, 22, 12)) {
    return `require('portcullis') needs Node.js 20.19, 22.12 or newer and this is ${node}: update Node.js, or use import.`;
  }
  return undefined;
}

/** Throws if this runtime is too old. @internal */
export function checkRuntime(byRequire: boolean): void {
  const problem = runtimeProblem(process.versions, byRequire);
  // No PortcullisError: nothing else of the package is loaded yet.
  if (problem !== undefined)
    throw Object.assign(new Error(problem), {
      name: 'PortcullisError',
      code: 'ERR_RUNTIME_TOO_OLD',
    });
}

checkRuntime(false);
