/** The client's address: the socket's peer, or the address that a trusted proxy or the application names. */
import { outOfRange, wrongType } from '../base/errors.js';
import { HEADER_NAME } from '../base/header-fields.js';
import { ignoreRejection } from '../base/hooks.js';
import { TrustedProxies } from '../native/addon.js';
import type { GuardOptions } from './options.js';

/** Peer of a Unix socket, which has no address; the same word trusts it in `trustedProxies`. @internal */
export const UNIX_PEER = 'unix';

type Headers = (name: string) => string;

const LIST = 'x-forwarded-for';
const ELEMENTS = 'forwarded';

/** Parses `trustedProxies`; `undefined` if there are none. @internal */
export function trustedProxiesOf(
  networks: readonly string[] | undefined,
): TrustedProxies | undefined {
  if (networks === undefined) return undefined;
  if (!Array.isArray(networks))
    throw wrongType('trustedProxies', networks, 'an array of networks such as "10.0.0.0/8"');
  const proxies = new TrustedProxies();
  for (const [index, network] of networks.entries()) {
    const field = `trustedProxies[${index}]`;
    const allowed = 'a network such as "10.0.0.0/8", an address, or "unix"';
    if (typeof network !== 'string') throw wrongType(field, network, allowed);
    if (!proxies.add(network)) throw outOfRange(field, network, allowed);
  }
  return networks.length === 0 ? undefined : proxies;
}

/** Returns the address of each client of one guard. @internal */
export class ClientAddress<R> {
  /** The server's own proxies, if there are any. */
  readonly proxies: TrustedProxies | undefined;
  /** Name of the header that holds the address, in lower case. */
  readonly #name: string | undefined;
  readonly #find: ((request: R, peer: string) => unknown) | undefined;
  /**
   * Key under which a request keeps the result of the application's function: the address, or `null` after a failure. The
   * function is called once for each request. Not in a weak map, since every garbage collection visits its entries.
   */
  readonly #found = Symbol('portcullis.client');

  /** @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE for the options */
  constructor(
    option: GuardOptions<R>['clientAddress'],
    trustedProxies: readonly string[] | undefined,
  ) {
    this.proxies = trustedProxiesOf(trustedProxies);
    if (typeof option === 'function') {
      this.#find = option;
      return;
    }
    if (option === undefined) return;
    const allowed = "the name of a header such as 'cf-connecting-ip', or a function";
    if (typeof option !== 'string') throw wrongType('clientAddress', option, allowed);
    if (!HEADER_NAME.test(option)) throw outOfRange('clientAddress', option, allowed);
    if (this.proxies === undefined)
      throw wrongType(
        'trustedProxies',
        trustedProxies,
        `the networks of the proxies that write ${option}, since clients can write any header`,
      );
    this.#name = option.toLowerCase();
  }

  /** True if the application finds the address, which may fail. */
  get mayFail(): boolean {
    return this.#find !== undefined;
  }

  /** True if the address cannot be found from the peer alone. */
  get readsRequest(): boolean {
    return this.proxies !== undefined || this.#find !== undefined;
  }

  /**
   * Returns the client's address.
   * @param request of the adapter; `undefined` where the host has none left
   * @param peer address of the socket's peer, `'unix'` or `''`
   * @param header returns a header by its name in lower case, `''` if it is absent
   * @returns `undefined` if the application's function has failed for the request before
   * @throws the error of the application's function, and for a result that is no string
   */
  of(request: R | undefined, peer: string, header: Headers): string | undefined {
    if (this.#find !== undefined) return this.#ask(this.#find, request, peer);
    const { proxies } = this;
    if (proxies === undefined) return peer;
    switch (this.#name) {
      case undefined:
        return proxies.client(peer, header(LIST), header(ELEMENTS));
      // Both are lists: the client is the first of them that is not trusted, from the right.
      case LIST:
        return proxies.client(peer, header(LIST), '');
      case ELEMENTS:
        return proxies.client(peer, '', header(ELEMENTS));
      default:
        return proxies.clientOfHeader(peer, header(this.#name));
    }
  }

  /** Asks the application's function, once for each request. */
  #ask(
    find: (request: R, peer: string) => unknown,
    request: R | undefined,
    peer: string,
  ): string | undefined {
    const state = request as { [key: symbol]: string | null | undefined } | undefined;
    const known = state?.[this.#found];
    if (known !== undefined) return known ?? undefined;
    // This value stays if the function throws.
    if (state !== undefined) state[this.#found] = null;
    const address = request === undefined ? undefined : find(request, peer);
    if (state !== undefined && typeof address === 'string') return (state[this.#found] = address);
    ignoreRejection(address);
    throw wrongType('clientAddress', address, 'a function that returns a string');
  }
}

/** Headers of a request: those of `fetch`, or those of `node:http`. */
export type RequestHeaders =
  | { get(name: string): string | null }
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** Returns a function from a name in lower case to a header. @throws ERR_INVALID_ARG_TYPE */
function readerOf(headers: RequestHeaders): Headers {
  if (typeof headers !== 'object' || headers === null)
    throw wrongType('headers', headers, 'the headers of a request');
  const { get } = headers;
  if (typeof get === 'function') return (name) => textOf(get.call(headers, name) ?? '');
  // Names in any case, since glue may hand on the headers as they were sent. A name that comes twice is a list.
  return (name) =>
    Object.entries(headers as Record<string, string | readonly string[] | null | undefined>)
      .filter(([key]) => key.toLowerCase() === name)
      .flatMap(([, value]) => value ?? [])
      .map(textOf)
      .join(', ');
}

/** @throws ERR_INVALID_ARG_TYPE for a value of a header that is no text */
function textOf(value: unknown): string {
  if (typeof value !== 'string')
    throw wrongType('headers', value, 'the headers of a request, which are text');
  return value;
}

/** The latest networks, parsed: glue asks with the same ones for every request. */
let latest:
  | {
      readonly header: string | undefined;
      readonly networks: readonly string[];
      readonly found: ClientAddress<undefined>;
    }
  | undefined;

/** Returns the parsed networks. @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the argument */
function parsedNetworks(
  networks: readonly string[],
  header: string | undefined,
): ClientAddress<undefined> {
  const isLatest =
    latest !== undefined &&
    latest.header === header &&
    latest.networks.length === networks.length &&
    latest.networks.every((network, at) => network === networks[at]);
  if (!isLatest) {
    const copy = [...networks];
    latest = { header, networks: copy, found: new ClientAddress<undefined>(header, copy) };
  }
  return latest!.found;
}

/**
 * Returns the address of a request's client, for servers that no adapter stands in front of: the address that
 * every guard finds for the same socket, headers and proxies.
 * @param peer address of the socket's peer; `unix` for a Unix socket, empty if unknown
 * @param headers those of `fetch`, or those of `node:http`
 * @param trustedProxies networks (`10.0.0.0/8`) or addresses of your own proxies, `unix` for a Unix socket. Headers
 * of other peers are not read
 * @param header name of a header that holds one address, such as `cf-connecting-ip`, in the place of
 * `X-Forwarded-For` and `Forwarded`. It needs `trustedProxies`
 * @returns the client's address, or the peer as it is
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the argument
 * @example
 * const ip = clientAddress(request.socket.remoteAddress ?? '', request.headers, ['10.0.0.0/8']);
 * const lease = manager.reserve(ip);
 */
export function clientAddress(
  peer: string,
  headers: RequestHeaders,
  trustedProxies: readonly string[],
  header?: string,
): string {
  if (typeof peer !== 'string') throw wrongType('peer', peer, 'a string');
  const read = readerOf(headers);
  if (!Array.isArray(trustedProxies))
    throw wrongType('trustedProxies', trustedProxies, 'an array of networks such as "10.0.0.0/8"');
  const allowed = "the name of a header such as 'cf-connecting-ip'";
  if (header !== undefined && typeof header !== 'string')
    throw wrongType('header', header, allowed);
  if (header !== undefined && !HEADER_NAME.test(header))
    throw outOfRange('header', header, allowed);
  // Without a function the address is always found.
  return parsedNetworks(trustedProxies, header).of(undefined, peer, read) ?? peer;
}
