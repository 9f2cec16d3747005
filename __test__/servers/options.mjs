// What a contract server is told by its environment: options of the adapter, as JSON.
import { TokenVerifier } from '../../dist/index.js';

const { whoAmI, auth, ...given } = JSON.parse(process.env.GUARD_OPTIONS ?? '{}');

/** `auth` arrives with what makes its verifier. */
const verifying = ({ policy, ...where }) => {
  const verifier = new TokenVerifier({ algorithms: ['HS256'], ...policy });
  return Object.keys(where).length === 0 ? verifier : { verifier, ...where };
};

export const options = auth === undefined ? given : { ...given, auth: verifying(auth) };

/**
 * @template R
 * @param {(request: R) => string | null | undefined} userOf
 * @returns {{ identify?: (request: R) => Promise<string | undefined> }}
 */
export function identifying(userOf) {
  if (whoAmI !== true) return {};
  return {
    identify: async (request) => {
      const user = userOf(request) ?? undefined;
      await undefined;
      if (user === 'throw') throw new Error('a secret');
      return user;
    },
  };
}
