/**
 * Several issuers, each with its own keys and policy. The issuer that a token names selects one,
 * before any key is fetched; that one then checks the whole token, its issuer too.
 */
import { accepts, type ClaimMatcher } from './claim-rules.js';
import type { TokenClaims, TokenVerifierSnapshot } from './result.js';

/** One issuer. */
interface Entry<V> {
  readonly matchers: readonly ClaimMatcher[];
  readonly verifier: V;
}

/** Verifiers by issuer. @internal */
export class IssuerList<V> {
  readonly #entries: readonly Entry<V>[];
  readonly #byName = new Map<string, V>();

  constructor(entries: readonly Entry<V>[]) {
    this.#entries = entries;
    for (const { matchers, verifier } of entries) {
      for (const one of matchers) {
        if (typeof one === 'string' && !this.#byName.has(one)) this.#byName.set(one, verifier);
      }
    }
  }

  /** All verifiers. */
  get verifiers(): readonly V[] {
    return this.#entries.map(({ verifier }) => verifier);
  }

  /** Returns the verifier for an issuer, given the claims that a template or function needs. */
  of(issuer: string, claims: TokenClaims): V | undefined {
    return (
      this.#byName.get(issuer) ??
      this.#entries.find(({ matchers }) => accepts(matchers, issuer, claims))?.verifier
    );
  }

  /**
   * Returns the verifier that the token's `iss` selects.
   * @returns `undefined` for an unknown issuer; the first verifier for a token that names none, or
   *   that cannot be read: it refuses such a token
   */
  select(token: unknown, maxTokenBytes: number): V | undefined {
    const claims = unverifiedClaims(token, maxTokenBytes);
    return typeof claims?.iss === 'string'
      ? this.of(claims.iss, claims)
      : this.#entries[0]?.verifier;
  }
}

/** Returns the claims of a token, whose signature is not verified. */
function unverifiedClaims(token: unknown, maxBytes: number): TokenClaims | undefined {
  if (typeof token !== 'string' || token.length > maxBytes) return undefined;
  const start = token.indexOf('.') + 1;
  const end = token.indexOf('.', start);
  if (start === 0 || end < 0) return undefined;
  try {
    const text = Buffer.from(token.slice(start, end), 'base64url').toString();
    const claims: unknown = JSON.parse(text);
    return typeof claims === 'object' && claims !== null ? (claims as TokenClaims) : undefined;
  } catch {
    return undefined;
  }
}

/** Adds the counts of several verifiers. @internal */
export function sumOf(snapshots: readonly TokenVerifierSnapshot[]): TokenVerifierSnapshot {
  const sum = (name: 'keys' | 'lenientKeys' | 'cached' | 'revocations' | 'usedTokens'): number =>
    snapshots.reduce((total, one) => total + one[name], 0);
  return {
    keys: sum('keys'),
    lenientKeys: sum('lenientKeys'),
    skippedKeys: [],
    cached: sum('cached'),
    revocations: sum('revocations'),
    usedTokens: sum('usedTokens'),
    jwks: undefined,
    shared: undefined,
    issuers: snapshots,
  };
}
