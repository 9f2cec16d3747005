/**
 * Replies of the page, with their security headers: the document, figures, short texts; frames of a
 * stream.
 */
import { lazily } from '../base/builtin.js';
import type { PageRequest } from './access.js';
import { DOCUMENT, SCRIPT_HASH, STYLE_HASH } from './document.js';
import type { PageReply } from './hosts.js';

const zlib = lazily(() => process.getBuiltinModule('node:zlib'));

const COMMON_HEADERS = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
} as const;
const DOCUMENT_HEADERS = {
  ...COMMON_HEADERS,
  'content-type': 'text/html; charset=utf-8',
  'x-frame-options': 'DENY',
  'cross-origin-opener-policy': 'same-origin',
  'content-security-policy': [
    "default-src 'none'",
    `script-src '${SCRIPT_HASH}'`,
    `style-src '${STYLE_HASH}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
  ].join('; '),
  vary: 'accept-encoding',
} as const;
/** Headers of the stream. The last one turns buffering off in nginx. @internal */
export const STREAM_HEADERS = {
  ...COMMON_HEADERS,
  'content-type': 'text/event-stream',
  'x-accel-buffering': 'no',
} as const;

/** gzip in a list of codings, without the weight 0 that excludes it. */
const ACCEPTS_GZIP = /(?:^|,)\s*gzip\s*(?:;\s*q=(?!0(?:\.0*)?\s*(?:,|$))[^,]*)?(?:,|$)/i;

let gzipped: Buffer | undefined;

/** Returns the document, compressed for clients that accept gzip. @internal */
export function documentReply({ header }: PageRequest): PageReply {
  if (!ACCEPTS_GZIP.test(header('accept-encoding')))
    return { status: 200, headers: DOCUMENT_HEADERS, body: DOCUMENT };
  gzipped ??= zlib().gzipSync(DOCUMENT);
  return {
    status: 200,
    headers: { ...DOCUMENT_HEADERS, 'content-encoding': 'gzip' },
    body: gzipped,
  };
}

/** Returns a value as JSON. @internal */
export function jsonReply(value: object): PageReply {
  return {
    status: 200,
    headers: { ...COMMON_HEADERS, 'content-type': 'application/json' },
    body: JSON.stringify(value),
  };
}

/** Returns a line of plain text. @internal */
export function textReply(
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): PageReply {
  return {
    status,
    headers: { ...COMMON_HEADERS, 'content-type': 'text/plain; charset=utf-8', ...headers },
    body: `${text}\n`,
  };
}

/**
 * Returns one server-sent event. JSON text holds no line break, so one `data` line is enough.
 * @internal
 */
export function eventFrame(event: string, data: object): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}
