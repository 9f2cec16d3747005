/**
 * Loads the native addon. No other file imports the generated loader. An addon that does not load
 * becomes an error with a code and a sentence that names the remedy.
 */
import './runtime.js';
// Static, so that bundlers see it.
import native from '../../native/load.cjs';
import type * as Native from '../../native/loader.js';
import { PortcullisError } from '../base/errors.js';

/** Platforms with a binary: `napi.targets` of package.json, without the C library. @internal */
export const PLATFORMS: readonly string[] = [
  'linux-x64',
  'linux-arm64',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64',
];
const PLATFORM_NAMES =
  'Linux (glibc 2.17 or newer, or musl) and macOS on x64 and arm64, and Windows on x64';

/** The machine on which the loader ran. @internal */
export interface Host {
  /** As `process.platform`. */
  readonly platform: string;
  /** As `process.arch`. */
  readonly arch: string;
  /** As `process.env`. */
  readonly env: { readonly [name: string]: string | undefined };
}

/**
 * Returns the messages of an error and its causes. The loader's first attempt is the last cause.
 */
function messagesOf(error: unknown): string[] {
  const messages: string[] = [];
  // Not by `instanceof`: in Jest the errors of the loader belong to another realm.
  for (let at = error as Partial<Error> | null | undefined; messages.length < 16; ) {
    if (typeof at?.message !== 'string') break;
    messages.push(at.message);
    at = at.cause as Partial<Error> | null | undefined;
  }
  return messages;
}

/** Where each bundler's settings stand. */
const BUNDLERS = 'See docs/bundlers.md.';
/** The addon's package or file, with its platform: `linux-x64-gnu`. */
const ADDON_NAME =
  /(?:@portcullis\/addon-|portcullis\.)((?:linux|darwin|win32)-(?:x64|arm64)(?:-(?:gnu|musl|msvc))?)/;
/** The last message is that of a single executable of Node, whose `require` loads built-in modules only. */
const NO_REQUIRE =
  /^Dynamic require of |^Could not dynamically require |^require is not defined|^No such built-in module: \./;

/** A file within an executable of Bun, which the linker cannot open. */
const IN_EXECUTABLE = /^\/\$bunfs\/.*\.node: cannot open shared object file/;

/** The last of them is the linker's, of a bundle that names the file by a path. */
const isAbsence = (message: string): boolean =>
  /^Cannot (?:find|require) (?:module|package|native binding)/.test(message) ||
  /\.node: cannot open shared object file: No such file/.test(message);

/** Finds out why the addon did not load. */
class LoadFailure {
  readonly #error: unknown;
  readonly #env: Host['env'];
  readonly #platform: string;
  readonly #messages: readonly string[];
  /** Messages of attempts that found a binary. */
  readonly #linkerMessages: readonly string[];
  readonly #reason: string;
  readonly #isBundled: boolean;

  constructor(error: unknown, { platform, arch, env }: Host, isBundled: boolean) {
    this.#error = error;
    this.#isBundled = isBundled;
    this.#env = env;
    this.#platform = `${platform}-${arch}`;
    this.#messages = messagesOf(error);
    this.#linkerMessages = this.#messages.filter(
      (message) => !isAbsence(message) && !message.startsWith('WASI binding'),
    );
    const reason = this.#linkerMessages.at(-1) ?? this.#messages.at(-1) ?? String(error);
    this.#reason = reason.split('\n')[0] ?? '';
  }

  /** Returns the error for the first cause that applies. */
  explain(): PortcullisError {
    return (
      this.#webAssemblyIsRequested() ??
      this.#pathIsWrong() ??
      this.#platformHasNoBinary() ??
      this.#bundleHasNoRequire() ??
      this.#executableCannotWrite() ??
      this.#binaryDoesNotLoad() ??
      this.#packageIsMissing()
    );
  }

  /**
   * With these variables the loader tries no binary. Other values of the second one change nothing.
   */
  #webAssemblyIsRequested(): PortcullisError | undefined {
    const field =
      (this.#env['NAPI_RS_WASI_FLAVOR'] ?? '') !== ''
        ? 'NAPI_RS_WASI_FLAVOR'
        : this.#env['NAPI_RS_FORCE_WASI'] === 'error'
          ? 'NAPI_RS_FORCE_WASI'
          : undefined;
    if (field === undefined) return undefined;
    return this.#errorOf(
      'ERR_ADDON_UNUSABLE',
      `${field} requests a WebAssembly binary, which portcullis does not have: unset it.`,
      field,
      this.#env[field] ?? '',
    );
  }

  #pathIsWrong(): PortcullisError | undefined {
    const field = 'NAPI_RS_NATIVE_LIBRARY_PATH';
    const path = this.#env[field];
    if (path === undefined || path === '') return undefined;
    return this.#errorOf(
      'ERR_ADDON_UNUSABLE',
      `${field} does not lead to an addon of portcullis that loads here (${this.#reason}): correct it, or unset it.`,
      field,
      path,
    );
  }

  #platformHasNoBinary(): PortcullisError | undefined {
    if (PLATFORMS.includes(this.#platform)) return undefined;
    return this.#errorOf(
      'ERR_PLATFORM_UNSUPPORTED',
      `portcullis has no binary for ${this.#platform}: run it on ${PLATFORM_NAMES}, or build it from source there.`,
      'platform',
      this.#platform,
    );
  }

  #binaryDoesNotLoad(): PortcullisError | undefined {
    if (this.#linkerMessages.length === 0) return undefined;
    return this.#errorOf(
      'ERR_ADDON_UNUSABLE',
      `portcullis's binary for ${this.#platform} does not load (${this.#reason}): ${remedyFor(this.#reason, this.#isBundled)}`,
      'platform',
      this.#platform,
    );
  }

  /** An ECMAScript module has no `require`; esbuild writes a function that throws in its place. */
  #bundleHasNoRequire(): PortcullisError | undefined {
    const message = this.#messages.find((text) => NO_REQUIRE.test(text));
    if (!this.#isBundled || message === undefined) return undefined;
    return this.#errorOf(
      'ERR_ADDON_UNUSABLE',
      `the bundle cannot load portcullis's addon (${message.split('\n')[0] ?? ''}): build CommonJS, define \`require\` by \`createRequire\` at its head, or keep portcullis external. ${BUNDLERS}`,
      'platform',
      this.#platform,
    );
  }

  /** An executable of Bun writes the addon to the temporary folder, and loads it from there. */
  #executableCannotWrite(): PortcullisError | undefined {
    const message = this.#messages.find((text) => IN_EXECUTABLE.test(text));
    if (message === undefined) return undefined;
    return this.#errorOf(
      'ERR_ADDON_UNUSABLE',
      `the executable cannot write portcullis's addon to the temporary folder (${message}): mount a writable one, or name it by TMPDIR. ${BUNDLERS}`,
      'platform',
      this.#platform,
    );
  }

  #packageIsMissing(): PortcullisError {
    // A bundle names the file instead of the package.
    const folder = this.#messages
      .map((message) => ADDON_NAME.exec(message)?.[1])
      .find((name) => name !== undefined);
    const wanted = `@portcullis/addon-${folder ?? this.#platform}`;
    if (this.#isBundled)
      return this.#errorOf(
        'ERR_ADDON_MISSING',
        `portcullis's addon is not beside the bundle: let the bundler copy .node files, install ${wanted} where the bundle was built and where it runs, or keep portcullis external. ${BUNDLERS}`,
        'package',
        wanted,
      );
    return this.#errorOf(
      'ERR_ADDON_MISSING',
      `portcullis's binary for this machine, the package ${wanted}, is not installed: install again on this machine, with optional dependencies (no --omit=optional) and without a node_modules folder or lock file from another one.`,
      'package',
      wanted,
    );
  }

  #errorOf(
    code: 'ERR_PLATFORM_UNSUPPORTED' | 'ERR_ADDON_MISSING' | 'ERR_ADDON_UNUSABLE',
    message: string,
    field: string,
    value: string,
  ): PortcullisError {
    return Object.assign(new PortcullisError(code, message, { field, value }), {
      cause: this.#error,
    });
  }
}

/**
 * Returns the error that explains why the addon did not load, with the loader's error as its
 * `cause`.
 *
 * @param isBundled Whether a bundler has moved this code away from its package.
 * @internal
 */
export function explainLoadFailure(
  error: unknown,
  host: Host,
  isBundled: boolean,
): PortcullisError {
  return new LoadFailure(error, host, isBundled).explain();
}

/** Returns the remedy for a binary that is there and does not load, by the linker's message. */
function remedyFor(reason: string, isBundled: boolean): string {
  if (/version `?GLIBC/.test(reason))
    return 'use a system with glibc 2.17 or newer, or build from source there.';
  if (/musl|ld-linux|libc\.so|symbol not found|Error relocating/.test(reason)) {
    return 'it is for the other C library (glibc or musl), so install again on this machine, without its node_modules folder.';
  }
  if (/version mismatch/.test(reason))
    return 'its version is not that of portcullis, so install again, without the node_modules folder and the lock file.';
  if (/failed to map segment/.test(reason))
    return 'mount its file system with exec, as for Docker in `--tmpfs /tmp:exec`. If it is mounted so, allow the process to map executable memory.';
  if (/loading addons is disabled/.test(reason))
    return 'start the process without --no-addons, and with --allow-addons if it has the permission model of Node.';
  if (isBundled)
    return `let the bundler copy .node files as they are, or keep portcullis external. ${BUNDLERS}`;
  return 'install again on this machine, without its node_modules folder.';
}

/**
 * Returns the addon that was loaded.
 *
 * @throws ERR_PLATFORM_UNSUPPORTED, ERR_ADDON_MISSING, ERR_ADDON_UNUSABLE
 * @internal
 */
export function addonOf(outcome: typeof native, host: Host): typeof Native {
  if (outcome.error !== undefined)
    throw explainLoadFailure(outcome.error, host, outcome.isBundled);
  // Some loaders of bundlers replace the exports of a file with its path or its content.
  if (typeof outcome.loaded !== 'object')
    throw explainLoadFailure(new Error('it is a path and no addon'), host, true);
  const loaded = outcome.loaded as Partial<typeof Native>;
  // Addons of all packages made with napi-rs read NAPI_RS_NATIVE_LIBRARY_PATH: it may be another's.
  if (typeof loaded.createConnections !== 'function')
    throw explainLoadFailure(new Error('it is the addon of another package'), host, false);
  return loaded as typeof Native;
}

export const {
  NativeCluster,
  RequestLedger,
  ResourceWatch,
  TokenCore,
  TrustedProxies,
  boundNames,
  createConnections,
  createJsonScanner,
  createBans,
  createLimiter,
  createUsers,
  figurePlaces,
  hotCalls,
  isPublicIp,
  metricLayout,
  randomSecret,
  resourceCells,
  tokenAlgorithms,
} = addonOf(native, process);

export type NativeCluster = Native.NativeCluster;
export type RequestLedger = Native.RequestLedger;
export type ResourceWatch = Native.ResourceWatch;
export type TokenCore = Native.TokenCore;
export type TrustedProxies = Native.TrustedProxies;
export type { ClusterFigures, ClusterMail, FigureTables, StallFigures, TokenPolicy } from '../../native/loader.js';
