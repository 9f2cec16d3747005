import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type TokenAlgorithm, type TokenJwk, verifyJws } from '../dist/index.js';

// The vectors of Project Wycheproof about JSON Web Signatures and Keys: `testvectors_v1` of its
// repository. Those of ECDSA, EdDSA, RSA and HMAC alone sign bytes that are no token, so they do not
// pass here; aws-lc, which verifies the signatures, has them among its own tests.
const FOLDER = new URL('../../shared/vectors/wycheproof/', import.meta.url);
const isThere = existsSync(FOLDER);
if (!isThere) console.log('skipped: the vectors of Wycheproof are not beside the project');

interface Vector {
  readonly tcId: number;
  readonly comment: string;
  readonly flags: readonly string[];
  readonly result: 'valid' | 'invalid';
  /** An object for a JSON serialization. */
  readonly jws?: unknown;
}
type KeyOrSet = TokenJwk & { readonly keys?: readonly TokenJwk[] };
interface Group {
  readonly public?: KeyOrSet;
  readonly private: KeyOrSet;
  readonly tests: readonly Vector[];
}
interface Expected {
  /** Vectors that say what is said here. */
  readonly agreed: number;
  /** Vectors of encrypted tokens, which are not supported. */
  readonly encrypted: number;
  /** The others, by their number, with the reason. */
  readonly differ: Readonly<Record<number, string>>;
}

const OTHER_ALG = 'the key names another algorithm than the token (RFC 7517, section 4.4)';
const ES521 = 'the key has the algorithm ES521, which no RFC has';
const LOST_PADDING = 'the text is that of the valid vector 357: its padding is not in the file';
const SKIPPED_CHARACTER = 'base64url has no characters to skip (RFC 7515, section 2)';
const MIXED =
  'the caller has allowed both algorithms, and each key serves its own: no key is taken for another';
const FILES: Readonly<Record<string, Expected>> = {
  json_web_signature: {
    agreed: 393,
    encrypted: 0,
    differ: {
      346: OTHER_ALG,
      347: ES521,
      350: OTHER_ALG,
      351: ES521,
      367: LOST_PADDING,
      370: LOST_PADDING,
      372: SKIPPED_CHARACTER,
      373: SKIPPED_CHARACTER,
    },
  },
  json_web_key: { agreed: 25, encrypted: 0, differ: { 1: MIXED } },
  json_web_crypto: { agreed: 48, encrypted: 34, differ: { 47: MIXED } },
};
const OF_TYPE: Readonly<Record<string, TokenAlgorithm>> = {
  oct: 'HS256',
  EC: 'ES256',
  RSA: 'RS256',
};
const KNOWN = /^(?:HS|RS|PS|ES)(?:256|384|512)$/;

/** Returns the algorithms that a caller with these keys would allow. */
function algorithmsOf(keys: readonly TokenJwk[]): TokenAlgorithm[] {
  const named = keys.flatMap(({ alg = '' }) => (KNOWN.test(alg) ? [alg as TokenAlgorithm] : []));
  return named.length > 0 ? [...new Set(named)] : [OF_TYPE[keys[0]?.kty ?? ''] ?? 'RS256'];
}

function verdictOf(jws: unknown, given: KeyOrSet): 'valid' | 'invalid' {
  const keys = given.keys ?? [given];
  try {
    const text = typeof jws === 'string' ? jws : JSON.stringify(jws);
    verifyJws(text, keys, { algorithms: algorithmsOf(keys) });
    return 'valid';
  } catch {
    return 'invalid';
  }
}

describe('the vectors of Wycheproof', () => {
  it.skipIf(!isThere).each(Object.entries(FILES))(
    'of %s are judged as labelled, or as the list here says',
    (file, expected) => {
      const { testGroups } = JSON.parse(
        readFileSync(new URL(`${file}_test.json`, FOLDER), 'utf8'),
      ) as { testGroups: readonly Group[] };
      let [agreed, encrypted] = [0, 0];
      const differ: number[] = [];
      for (const group of testGroups) {
        for (const { tcId, jws, result } of group.tests) {
          if (jws === undefined) encrypted++;
          else if (verdictOf(jws, group.public ?? group.private) === result) agreed++;
          else differ.push(tcId);
        }
      }
      expect({ agreed, encrypted, differ }).toEqual({
        ...expected,
        differ: Object.keys(expected.differ).map(Number),
      });
    },
  );
});
