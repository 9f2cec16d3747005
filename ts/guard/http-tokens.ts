/** HTTP requests that need a token, by their paths. */
import { outOfRange, wrongType } from '../base/errors.js';
import { hasDotSegment } from '../base/options.js';
import { pathReadingsOf } from '../http/path-readings.js';
import { hasParameter } from '../http/rate-options.js';

const PATHS_MAX = 100;
const ALLOWED = "true, or an array of paths such as '/api/users' or '/api/*'";
const PATH_ALLOWED =
  "a path such as '/api/users' or '/api/*' of visible ASCII characters, without percent codes, '?', '#' and '\\', with a star at its end only";

/**
 * The paths that need a token. Routers differ in what they take for the same path, so a request
 * needs a token if any reading of its path is one of them. @internal
 */
export class HttpTokens {
  readonly #isAll: boolean;
  readonly #paths: readonly { readonly text: string; readonly isPrefix: boolean }[];

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE */
  constructor(option: unknown) {
    this.#isAll = option === true;
    if (typeof option === 'boolean' || option === undefined) {
      this.#paths = [];
      return;
    }
    if (!Array.isArray(option)) throw wrongType('auth.http', option, ALLOWED);
    if (option.length > PATHS_MAX)
      throw outOfRange('auth.http', option.length, `at most ${PATHS_MAX} paths`);
    this.#paths = option.map((path: unknown, at) => {
      if (typeof path !== 'string') throw wrongType(`auth.http[${at}]`, path, ALLOWED);
      if (!/^\/[!-~]*$/.test(path) || /[?#\\%]|\*./.test(path))
        throw outOfRange(`auth.http[${at}]`, path, PATH_ALLOWED);
      if (hasDotSegment(path))
        throw outOfRange(`auth.http[${at}]`, path, "a path without the segments '.' and '..'");
      // A request would have to spell the parameter as it stands here: all others would need no token.
      if (hasParameter(path))
        throw outOfRange(
          `auth.http[${at}]`,
          path,
          "a path without parameters: '/users/*' stands for all paths below '/users/'",
        );
      const isPrefix = path.endsWith('*');
      const text = (isPrefix ? path.slice(0, -1) : path).toLowerCase();
      // Readings of a path have single slashes.
      return { text: text.replaceAll(/\/{2,}/g, '/'), isPrefix };
    });
  }

  /** True if no request needs a token. */
  get isEmpty(): boolean {
    return !this.#isAll && this.#paths.length === 0;
  }

  /** True if a request needs a token; a preflight request does not. */
  needs(method: string | undefined, url: string, header: (name: string) => string): boolean {
    if (isPreflight(method, header)) return false;
    if (this.#isAll) return true;
    const { paths, isMalformed, isUnread } = pathReadingsOf(url);
    // A path that cannot be read is one that a router may read otherwise.
    return isMalformed || isUnread || paths.some((path) => this.#holds(path));
  }

  #holds(path: string): boolean {
    return this.#paths.some(({ text, isPrefix }) =>
      isPrefix
        ? path.startsWith(text) || `${path}/` === text
        : path === text || `${path}/` === text,
    );
  }
}

/**
 * True for a preflight request of CORS, which browsers send without credentials (Fetch standard, section 4.8). Whoever
 * sends its two headers by hand reaches the handlers of OPTIONS. @internal
 */
export function isPreflight(method: string | undefined, header: (name: string) => string): boolean {
  return (
    method === 'OPTIONS' &&
    header('origin') !== '' &&
    header('access-control-request-method') !== ''
  );
}
