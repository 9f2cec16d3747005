/** The only importer of the generated loader: what it cannot load becomes a sentence that says what to do. */
import './runtime.js';
import { createRequire } from 'node:module';
import type * as Native from '../../native/loader.js';
import { PortcullisError } from '../base/errors.js';

/** Platforms that have a binary; `napi.targets` of package.json, without the C library. @internal */
export const PLATFORMS: readonly string[] = [
  'linux-x64',
  'linux-arm64',
  'darwin-x64',
  'darwin-arm64',
  'win32-x64',
];
const PLATFORM_NAMES =
  'Linux (glibc 2.17 or newer, or musl) and macOS on x64 and arm64, and Windows on x64';

/** Where the loader looked. @internal */
export interface Host {
  /** As `process.platform`. */
  readonly platform: string;
  /** As `process.arch`. */
  readonly arch: string;
  /** As `process.env`. */
  readonly env: { readonly [name: string]: string | undefined };
}

/** The messages of an error and its causes, the first attempt last. */
function messagesOf(error: unknown): string[] {
  const messages: string[] = [];
  for (let at = error; at instanceof Error && messages.length < 16; at = at.cause)
    messages.push(at.message);
  return messages;
}

const isAbsence = (message: string): boolean =>
  /^Cannot find (?:module|package|native binding)/.test(message);

/** Why the addon is not there, and what to do about it. @internal */
export function explainLoadFailure(error: unknown, { platform, arch, env }: Host): PortcullisError {
  const here = `${platform}-${arch}`;
  const messages = messagesOf(error);
  const reasons = messages.filter(
    (message) => !isAbsence(message) && !message.startsWith('WASI binding'),
  );
  const reason = (reasons.at(-1) ?? messages.at(-1) ?? String(error)).split('\n')[0] ?? '';
  const say = (
    code: 'ERR_PLATFORM_UNSUPPORTED' | 'ERR_ADDON_MISSING' | 'ERR_ADDON_UNUSABLE',
    message: string,
    field: string,
    value: string,
  ): PortcullisError =>
    Object.assign(new PortcullisError(code, message, { field, value }), { cause: error });

  // With these the loader tries nothing else; any other value of the second one leaves it the choice.
  for (const [field, asks] of [
    ['NAPI_RS_WASI_FLAVOR', (env['NAPI_RS_WASI_FLAVOR'] ?? '') !== ''],
    ['NAPI_RS_FORCE_WASI', env['NAPI_RS_FORCE_WASI'] === 'error'],
  ] as const) {
    if (asks)
      return say(
        'ERR_ADDON_UNUSABLE',
        `${field} asks for a WebAssembly binary, and portcullis has none: unset it.`,
        field,
        env[field] ?? '',
      );
  }
  const path = env['NAPI_RS_NATIVE_LIBRARY_PATH'];
  if (path !== undefined && path !== '') {
    const field = 'NAPI_RS_NATIVE_LIBRARY_PATH';
    return say(
      'ERR_ADDON_UNUSABLE',
      `${field} names no addon of portcullis that loads here (${reason}): correct it, or unset it.`,
      field,
      path,
    );
  }
  if (!PLATFORMS.includes(here)) {
    return say(
      'ERR_PLATFORM_UNSUPPORTED',
      `portcullis has no binary for ${here}: run it on ${PLATFORM_NAMES}, or build it from source there.`,
      'platform',
      here,
    );
  }
  if (reasons.length > 0)
    return say(
      'ERR_ADDON_UNUSABLE',
      `portcullis's binary for ${here} does not load (${reason}): ${remedyFor(reason)}`,
      'platform',
      here,
    );
  const wanted =
    messages
      .map((message) => /@portcullis\/addon-(?!wasm)[\w-]+/.exec(message)?.[0])
      .find((name) => name !== undefined) ?? `@portcullis/addon-${here}`;
  return say(
    'ERR_ADDON_MISSING',
    `portcullis's binary for this machine, the package ${wanted}, is not installed: install again on this machine, with optional dependencies (no --omit=optional) and without a node_modules folder or lock file from another one.`,
    'package',
    wanted,
  );
}

/** What mends a binary that is there and does not load, by what the linker said. */
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

/** Loads the addon by `require`, refusing a binary of another version: both sides share memory. @internal */
export function loadNative(load: () => unknown, host: Host): typeof Native {
  const { env } = process;
  const before = env['NAPI_RS_ENFORCE_VERSION_CHECK'];
  env['NAPI_RS_ENFORCE_VERSION_CHECK'] = '1';
  try {
    const loaded = load() as Partial<typeof Native>;
    // The variable is read by the addons of every package that is made with napi-rs.
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

// Not an import: what an import throws cannot be caught without `await`, and that would end require().
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
