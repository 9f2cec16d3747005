/**
 * Rows of the ledger: one per pair of route pattern and method. Pairs beyond `maxRoutes` share one
 * row. Requests without a route have a row for each method, which the limit does not count.
 */
import { wrongType } from '../base/errors.js';

const ROUTE_MAX = 200;
/** Name of the shared row, and of names beyond a cap elsewhere. @internal */
export const OTHER = 'other';
/** Methods with rows of their own; all others count as `_OTHER`, as in OpenTelemetry. */
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

interface MethodRow {
  readonly method: string | undefined;
  readonly row: number;
}

interface Names {
  readonly route: string;
  readonly method: string;
}

function normalizedMethod(method: string): string {
  if (method === '' || METHODS.has(method)) return method;
  const upper = method.slice(0, 10).toUpperCase();
  return METHODS.has(upper) ? upper : OTHER_METHOD;
}

/** Replaces control characters and lone surrogates, which a label must not hold. @internal */
export function cleaned(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, '?').replaceAll(/\p{Cs}/gu, '\u{fffd}');
}

/** Returns a name of the application as a label: on one line, and cleaned. @internal */
export function nameLabel(name: string): string {
  return cleaned(name.replaceAll(/[\t\r\n]/g, ' '));
}

/** @internal */
export class Routes {
  /** Route and method of each row. Row 0 is for requests without either. */
  readonly names: Names[] = [];
  readonly #maxRoutes: number;
  readonly #onRow: (route: string, method: string) => void;
  /** Rows by pattern, and within a pattern by method: a short list, faster to search than a map. */
  readonly #rows = new Map<string | undefined, MethodRow[]>();
  #otherRow = -1;
  /** Rows with a route. */
  #routeCount = 0;

  /** @param onRow called with each new row, in their order */
  constructor(maxRoutes: number, onRow: (route: string, method: string) => void) {
    this.#maxRoutes = maxRoutes;
    this.#onRow = onRow;
    this.#add('', '');
    this.#rows.set(undefined, [{ method: undefined, row: 0 }]);
  }

  /** The row shared by all routes beyond the cap; -1 before there are any. */
  get otherRow(): number {
    return this.#otherRow;
  }

  /**
   * Returns the row of a route, creating it if there is room. An absent name counts as `''`.
   * @throws ERR_INVALID_ARG_TYPE
   */
  rowOf(route: string | undefined, method: string | undefined): number {
    // A lookup of any value but a known string finds nothing; `#find` then checks the types.
    const rows = this.#rows.get(route);
    if (rows !== undefined)
      for (let at = 0; at < rows.length; at++)
        if (rows[at]!.method === method) return rows[at]!.row;
    return this.#find(route, method);
  }

  #find(givenRoute: string | undefined = '', givenMethod: string | undefined = ''): number {
    if (typeof givenRoute !== 'string') throw wrongType('route', givenRoute, 'a string');
    if (typeof givenMethod !== 'string') throw wrongType('method', givenMethod, 'a string');
    const route = cleaned(givenRoute.slice(0, ROUTE_MAX));
    const method = normalizedMethod(givenMethod);
    const known = this.#rows.get(route)?.find((row) => row.method === method);
    if (known !== undefined) return known.row;
    if (route === '' || this.#routeCount < this.#maxRoutes) {
      if (route !== '') this.#routeCount++;
      return this.#add(route, method);
    }
    if (this.#otherRow < 0) this.#otherRow = this.#sharedRow();
    return this.#otherRow;
  }

  /** Returns the row of all routes beyond the cap; the application may have named a route so itself. */
  #sharedRow(): number {
    const named = this.#rows.get(OTHER)?.find(({ method }) => method === '');
    return named?.row ?? this.#add(OTHER, '');
  }

  #add(route: string, method: string): number {
    this.#onRow(route, method);
    const row = this.names.push({ route, method }) - 1;
    const rows = this.#rows.get(route);
    if (rows === undefined) this.#rows.set(route, [{ method, row }]);
    else rows.push({ method, row });
    return row;
  }
}
