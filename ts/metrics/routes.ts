/** The rows of routes: a route is a pattern and a method; of more than `maxRoutes`, all others share one row. */
import { wrongType } from '../base/errors.js';

const ROUTE_MAX = 200;
/** What is counted under the names of others. @internal */
export const OTHER = 'other';
/** The methods that are told apart; the rest is `_OTHER`, as OpenTelemetry has it. */
const METHODS = new Set([
  'GET',
  'HEAD',
  'POST',
  'PUT',
  'DELETE',
  'PATCH',
  'OPTIONS',
  'CONNECT',
  'TRACE',
]);
const OTHER_METHOD = '_OTHER';

interface Row {
  readonly method: string | undefined;
  readonly id: number;
}

interface Names {
  readonly route: string;
  readonly method: string;
}

function methodOf(method: string): string {
  if (method === '' || METHODS.has(method)) return method;
  const upper = method.slice(0, 10).toUpperCase();
  return METHODS.has(upper) ? upper : OTHER_METHOD;
}

/** Control characters and halves of characters have no place in a label. */
function cleaned(text: string): string {
  const cut = text.length > ROUTE_MAX ? text.slice(0, ROUTE_MAX) : text;
  return cut.replaceAll(/\p{Cc}/gu, '?').replaceAll(/\p{Cs}/gu, '\u{fffd}');
}

/** @internal */
export class Routes {
  /** By row. Row 0 is for requests of which neither is known. */
  readonly names: Names[] = [];
  readonly #maxRoutes: number;
  readonly #added: (route: string, method: string) => void;
  /** Rows by pattern: one to each method, of which there are few. */
  readonly #rows = new Map<string | undefined, Row[]>();
  #other = -1;

  /** @param added is told of each new row, in their order */
  constructor(maxRoutes: number, added: (route: string, method: string) => void) {
    this.#maxRoutes = maxRoutes;
    this.#added = added;
    this.#add('', '');
    this.#rows.set(undefined, [{ method: undefined, id: 0 }]);
  }

  /** The row that the others share, or -1 while there are none. */
  get other(): number {
    return this.#other;
  }

  /**
   * The row of a route; what is absent counts as `''`.
   * @throws ERR_INVALID_ARG_TYPE
   */
  rowOf(route: string | undefined, method: string | undefined): number {
    // What is no string is no key: it is looked at below.
    const rows = this.#rows.get(route);
    if (rows !== undefined)
      for (let at = 0; at < rows.length; at++) if (rows[at]!.method === method) return rows[at]!.id;
    return this.#find(route, method);
  }

  #find(givenRoute: string | undefined = '', givenMethod: string | undefined = ''): number {
    if (typeof givenRoute !== 'string') throw wrongType('route', givenRoute, 'a string');
    if (typeof givenMethod !== 'string') throw wrongType('method', givenMethod, 'a string');
    const [route, method] = [cleaned(givenRoute), methodOf(givenMethod)];
    const known = this.#rows.get(route)?.find((row) => row.method === method);
    if (known !== undefined) return known.id;
    if (this.names.length < this.#maxRoutes) return this.#add(route, method);
    if (this.#other < 0) this.#other = this.#name(OTHER, '');
    return this.#other;
  }

  #add(route: string, method: string): number {
    const id = this.#name(route, method);
    const rows = this.#rows.get(route);
    if (rows === undefined) this.#rows.set(route, [{ method, id }]);
    else rows.push({ method, id });
    return id;
  }

  #name(route: string, method: string): number {
    this.#added(route, method);
    return this.names.push({ route, method }) - 1;
  }
}
