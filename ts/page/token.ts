/** Tokens that the page makes, the cookie that stands for a token, and comparisons of both. */
import { env } from 'node:process';
import { lazily } from '../base/builtin.js';
import { randomSecret } from '../native/addon.js';

const nodeCrypto = lazily(() => process.getBuiltinModule('node:crypto'));

/**
 * Environment variable of the secret from which tokens are derived. Cluster workers and worker
 * threads inherit it, so that all processes and threads of a port agree on the token.
 */
const SECRET = 'PORTCULLIS_PAGE_SECRET';

/** True in production, where the page needs a token of the application's own. @internal */
export const isProduction = (): boolean => env['NODE_ENV'] === 'production';

/** Returns the secret, after making it if this process has inherited none. */
function secret(): string {
  const inherited = env[SECRET];
  if (inherited !== undefined && /^[0-9a-f]{64}$/.test(inherited)) return inherited;
  // Runs at every import: `node:crypto` and the host's `crypto` are not loaded for it.
  return (env[SECRET] = randomSecret());
}

/** True if this process or thread began with a secret. @internal */
export const hasInheritedSecret = env[SECRET] !== undefined;

// At import: the first process of a cluster often only forks, and its workers have to inherit it.
if (!isProduction()) secret();

const hmac = (key: string, text: string): string =>
  nodeCrypto().createHmac('sha256', key).update(text).digest('base64url');

/** Returns the token that the page at `path` makes: 192 bits. @internal */
export function madeToken(path: string): string {
  return hmac(secret(), `page ${path}`).slice(0, 32);
}

/** Compares texts in a time that does not depend on them: digests have one length. @internal */
export class Expected {
  readonly #digest: Buffer;

  constructor(text: string) {
    this.#digest = digest(text);
  }

  equals(text: string): boolean {
    return nodeCrypto().timingSafeEqual(digest(text), this.#digest);
  }
}

const digest = (text: string): Buffer => nodeCrypto().createHash('sha256').update(text).digest();

/**
 * Returns the value of the cookie for a token. Every process with the token accepts it, and the
 * token cannot be read from it.
 * @internal
 */
export function cookieValueOf(token: string): string {
  return hmac(token, 'portcullis page cookie');
}
