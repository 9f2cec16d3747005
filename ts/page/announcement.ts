/** One line about a page without a token of the application's own: its link, or how to open it. */
import type { Cluster } from 'node:cluster';
import { writeSync } from 'node:fs';
import type { AddressInfo, Server } from 'node:net';
import { lazily } from '../base/builtin.js';
import { hasInheritedSecret } from './token.js';

// The type is that of the module's namespace, whose default export the function returns.
const cluster = lazily(() => process.getBuiltinModule('node:cluster') as unknown as Cluster);
const tty = lazily(() => process.getBuiltinModule('node:tty'));

const RANGE = '16 to 512 visible ASCII characters';
const warned = new Set<string>();

/** Emits a process warning, once for each code and process. */
function warn(code: string, message: string): void {
  if (warned.has(code)) return;
  warned.add(code);
  process.emitWarning(message, { type: 'PortcullisWarning', code });
}

/**
 * Returns the descriptor of a terminal. The streams of `process` may be replaced, and lead to a log;
 * in a worker thread they are no terminals.
 */
function terminal(): number | undefined {
  return [2, 1].find((descriptor) => tty().isatty(descriptor));
}

/** The first worker of a cluster speaks for all, which have its token. */
function isFirstOfCluster(): boolean {
  const { worker } = cluster();
  return worker === undefined || worker === null || worker.id === 1;
}

/** Reports that the page is off. @internal */
export function warnOff(path: string): void {
  warn(
    'PORTCULLIS_PAGE_OFF',
    `the live page at ${path} is off: NODE_ENV is "production", and page.token is not set. Set page.token (${RANGE}) to switch the page on`,
  );
}

/**
 * Prints the link with the token to a terminal. Where there is none, a warning without the token says
 * how to choose one: the output may be a log that others read.
 * @param origin such as `http://localhost:3000`; without it the link begins with the path
 * @internal
 */
export function printLink(path: string, token: string, origin: string | undefined): void {
  const descriptor = terminal();
  if (descriptor === undefined) {
    warn(
      'PORTCULLIS_PAGE_TOKEN',
      `the live page at ${path} needs a token, and its link is printed to a terminal only. Set page.token (${RANGE}) to choose the token`,
    );
    return;
  }
  if (hasInheritedSecret && !isFirstOfCluster()) return;
  const where = origin === undefined ? 'this server at ' : origin;
  try {
    writeSync(descriptor, `portcullis: the live page is at ${where}${path}?token=${token}\n`);
  } catch {
    // A terminal that takes nothing, or was closed, must not end the server.
  }
}

/** Returns the origin of a server that listens; `undefined` for a Unix socket. @internal */
export function originOf(server: Server): string | undefined {
  const address = server.address() as AddressInfo | string | null;
  if (address === null || typeof address === 'string') return undefined;
  const scheme = 'setSecureContext' in server ? 'https' : 'http';
  return `${scheme}://${hostOf(address.address)}:${address.port}`;
}

/** Returns the host of a URL for an address that a server listens on. */
function hostOf(address: string): string {
  if (address === '::' || address === '0.0.0.0') return 'localhost';
  return address.includes(':') ? `[${address}]` : address;
}
