// What a contract server is told by its environment: options of the adapter, as JSON.
const { whoAmI, ...given } = JSON.parse(process.env.GUARD_OPTIONS ?? '{}');

export const options = given;

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
