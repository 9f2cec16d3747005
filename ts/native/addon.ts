/**
 * Loads the native addon. No other file imports the generated loader. An addon that does not load
 * becomes an error with a code and a sentence that names the remedy.
 */
import './runtime.js';
import { createRequire } from 'node:module';
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
  for (let at = error; at instanceof Error && messages.length < 16; at = at.cause)
    messages.push(at.message);
  return messages;
}

const isAbsence = (message: string): boolean =>
  /^Cannot find (?:module|package|native binding)/.test(message);

/** Finds out why the addon did not load. */
class LoadFailure {
  readonly #error: unknown;
  readonly #env: Host['env'];
  readonly #platform: string;
  readonly #messages: readonly string[];
  /** Messages of attempts that found a binary. */
  readonly #linkerMessages: readonly string[];
  readonly #reason: string;

  constructor(error: unknown, { platform, arch, env }: Host) {
    this.#error = error;
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
      `portcullis's binary for ${this.#platform} does not load (${this.#reason}): ${remedyFor(this.#reason)}`,
      'platform',
      this.#platform,
    );
  }

  #packageIsMissing(): PortcullisError {
    const wanted =
      this.#messages
        .map((message) => /@portcullis\/addon-(?!wasm)[\w-]+/.exec(message)?.[0])
        .find((name) => name !== undefined) ?? `@portcullis/addon-${this.#platform}`;
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
 * @internal
 */
export function explainLoadFailure(error: unknown, host: Host): PortcullisError {
  return new LoadFailure(error, host).explain();
}

/** Returns the remedy for a binary that is there and does not load, by the linker's message. */
function remedyFor(reason: string): string {
  if (/version `?GLIBC/.test(reason))
    return 'use a system with glibc 2.17 or newer, or build from source there.';
  if (/musl|ld-linux|libc\.so|symbol not found|Error relocating/.test(reason)) {
    return 'it is for the other C library (glibc or musl), so install again on this machine, without its node_modules folder.';
  }
  if (/version mismatch/.test(reason))
    return 'its version is not that of portcullis, so install again, without the node_modules folder and the lock file.';
  return 'install again on this machine, without its node_modules folder.';
}

/**
 * Loads the addon. Refuses a binary of another version, because JavaScript and Rust share the
 * layout of memory.
 *
 * @throws ERR_PLATFORM_UNSUPPORTED, ERR_ADDON_MISSING, ERR_ADDON_UNUSABLE
 * @internal
 */
export function loadNative(load: () => unknown, host: Host): typeof Native {
  const { env } = process;
  const before = env['NAPI_RS_ENFORCE_VERSION_CHECK'];
  env['NAPI_RS_ENFORCE_VERSION_CHECK'] = '1';
  try {
    const loaded = load() as Partial<typeof Native>;
    // Addons of all packages made with napi-rs read NAPI_RS_NATIVE_LIBRARY_PATH: it may be
    // another's.
    if (typeof loaded.createConnections !== 'function')
      throw new Error('it is the addon of another package');
    return loaded as typeof Native;
  } catch (error) {
    throw explainLoadFailure(error, host);
  } finally {
    if (before === undefined) delete env['NAPI_RS_ENFORCE_VERSION_CHECK'];
    else env['NAPI_RS_ENFORCE_VERSION_CHECK'] = before;
  }
}

// Not an import: an error of a static import cannot be caught, and a dynamic one needs a top-level
// `await`, with which the package could not be loaded by `require`.
const require = createRequire(import.meta.url);

export const {
  RequestLedger,
  ResourceWatch,
  TokenCore,
  TrustedProxies,
  createConnections,
  createJsonScanner,
  createUsers,
  isPublicIp,
  metricLayout,
  resourceCells,
  tokenAlgorithms,
} = loadNative(() => require('../../native/loader.js'), process);

export type RequestLedger = Native.RequestLedger;
export type ResourceWatch = Native.ResourceWatch;
export type TokenCore = Native.TokenCore;
export type TrustedProxies = Native.TrustedProxies;
export type { StallFigures, TokenPolicy, WatchFigures } from '../../native/loader.js';
