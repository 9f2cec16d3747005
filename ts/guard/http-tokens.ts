/** HTTP requests that need a token, by their paths. */
import { outOfRange, wrongType } from '../base/errors.js';
import { targetOf } from '../http/answer.js';
import { hasParameter } from '../http/rate-options.js';

const PATHS_MAX = 100;
const ALLOWED = "true, or an array of paths such as '/api/users' or '/api/*'";

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
      if (!/^\/[!-~]*$/.test(path) || /[?#\\%]|\*./.test(path) || plainPath(path) === undefined)
        throw outOfRange(`auth.http[${at}]`, path, ALLOWED);
      // A request would have to spell the parameter as it stands here: all others would need no token.
      if (hasParameter(path))
        throw outOfRange(
          `auth.http[${at}]`,
          path,
          "a path without parameters: '/users/*' stands for all paths below '/users/'",
        );
      const isPrefix = path.endsWith('*');
      return { text: (isPrefix ? path.slice(0, -1) : path).toLowerCase(), isPrefix };
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
    const raw = pathOf(url);
    const plain = plainPath(raw);
    // A path that cannot be read is one that a router may read otherwise.
    if (plain === undefined) return true;
    return this.#holds(raw.toLowerCase()) || this.#holds(plain);
  }

  #holds(path: string): boolean {
    return this.#paths.some(({ text, isPrefix }) =>
      isPrefix
        ? path.startsWith(text) || `${path}/` === text
        : path === text || path === `${text}/` || `${path}/` === text,
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

function pathOf(url: string): string {
  const target = targetOf(url);
  const end = target.search(/[?#]/);
  return end < 0 ? target : target.slice(0, end);
}

/** Decodes a path until nothing is left to decode, and resolves its dots, slashes and case. */
function plainPath(path: string): string | undefined {
  let text = path;
  for (let round = 0; round < 4; round++) {
    let decoded: string;
    try {
      decoded = decodeURIComponent(text);
    } catch {
      return undefined;
    }
    if (decoded === text) return resolved(text);
    text = decoded;
  }
  return undefined;
}

function resolved(path: string): string {
  const parts: string[] = [];
  const segments = path.replaceAll('\\', '/').toLowerCase().split('/');
  for (const [at, segment] of segments.entries()) {
    // Parameters of a path, such as `;jsessionid=1`, are no part of it to some routers.
    const [name = ''] = segment.split(';', 1);
    if (name === '..') parts.pop();
    else if (name !== '.' && (name !== '' || at === segments.length - 1)) parts.push(name);
  }
  return `/${parts.join('/')}`;
}
