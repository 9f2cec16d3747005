/**
 * The trace of a request: its id and its `traceparent`. Both are an outsider's text, so that only values
 * of a fixed grammar are taken; they are read from the headers when they are asked for.
 */
import { outOfRange, wrongType } from './errors.js';
import { HEADER_NAME } from './header-fields.js';
import { randomUUID } from './random.js';

/** The trace of a request, as its client named it. */
export interface RequestTrace {
  /**
   * Id of the request: the header of the option `requestIdHeader`, if it is 1 to 128 letters, digits and
   * `-_.:/+=@~;`; else a random UUID, made when it is first read.
   */
  readonly requestId: string;
  /** Header `traceparent`, if it is one of W3C Trace Context; else `undefined`. */
  readonly traceparent: string | undefined;
}

/**
 * A trace, or a connection. A connection that was added without a guard has no trace, and `undefined` in both fields.
 * @internal
 */
export type PossibleTrace = { readonly [K in keyof RequestTrace]: RequestTrace[K] | undefined };

/** Header with the id of a request, unless the option `requestIdHeader` names another one. */
const ID_HEADER = 'x-request-id';
const ID_MAX = 128;
const ID = /^[\w.:/+=@~;-]+$/;
/** Version, trace id, parent id and flags: version ff and ids of zeros are invalid (section 3.2). */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})[\da-f]{32}-(?!0{16})[\da-f]{16}-[\da-f]{2}$/;
const TRACEPARENT_LENGTH = 55;

/** Headers of `fetch` hosts, or of `node:http`. */
interface Traced {
  readonly headers: { get(name: string): string | null } | Readonly<Record<string, unknown>>;
}

function headerOf({ headers }: Traced, name: string): string {
  const value =
    typeof headers.get === 'function'
      ? (headers as { get(name: string): unknown }).get(name)
      : Object.hasOwn(headers, name)
        ? (headers as Readonly<Record<string, unknown>>)[name]
        : undefined;
  return typeof value === 'string' ? value : '';
}

/** The values of one request. Keeps neither the request nor its headers. */
class Trace implements RequestTrace {
  readonly traceparent: string | undefined;
  /** Empty until an id is made. */
  #id: string;

  constructor(id: string, traceparent: string) {
    this.#id = id.length <= ID_MAX && ID.test(id) ? id : '';
    this.traceparent =
      traceparent.length === TRACEPARENT_LENGTH && TRACEPARENT.test(traceparent)
        ? traceparent
        : undefined;
  }

  get requestId(): string {
    if (this.#id === '') this.#id = randomUUID();
    return this.#id;
  }
}

/** Returns the trace of a request whose client has named none. @internal */
export const unnamedTrace = (): RequestTrace => new Trace('', '');

/** Makes the trace of its handshake when it is first read: a connection, of which hardly any is asked. @internal */
export interface TraceHolder {
  readonly trace: RequestTrace | undefined;
}

/**
 * Key of a request's trace, or of the connection that has it: on the request, since a garbage collection visits the
 * entries of a weak map.
 */
const TRACE = Symbol('portcullis.trace');
type Held = Traced & { [TRACE]?: RequestTrace | TraceHolder };

/** Reads the traces of one guard's requests. @internal */
export class Tracer {
  /** Name of the header with the id; empty for none. */
  readonly #header: string;

  /**
   * @param header the option `requestIdHeader`
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE
   */
  constructor(header: unknown = ID_HEADER) {
    const allowed = "the name of a header, such as 'x-request-id', or false";
    if (header !== false && typeof header !== 'string')
      throw wrongType('requestIdHeader', header, allowed);
    if (header !== false && !HEADER_NAME.test(header))
      throw outOfRange('requestIdHeader', header, allowed);
    this.#header = header === false ? '' : header.toLowerCase();
  }

  /** Returns the trace of a request; the same one at each call. */
  of(request: object): RequestTrace {
    const held = request as Held;
    const known = held[TRACE];
    if (known instanceof Trace) return known;
    const trace = (known as TraceHolder | undefined)?.trace;
    return (held[TRACE] = trace ?? new Trace(this.#idOf(held), headerOf(held, 'traceparent')));
  }

  /**
   * Returns the trace of a request for a connection to keep; `undefined` if its client has named none and it was not read
   * yet. Then the connection makes it, and the request refers to the connection.
   */
  keptBy(holder: TraceHolder, request: object): RequestTrace | undefined {
    const held = request as Held;
    if (held[TRACE] !== undefined) return this.of(request);
    const id = this.#idOf(held);
    const traceparent = headerOf(held, 'traceparent');
    if (id !== '' || traceparent !== '') return (held[TRACE] = new Trace(id, traceparent));
    held[TRACE] = holder;
    return undefined;
  }

  #idOf(request: Traced): string {
    return this.#header === '' ? '' : headerOf(request, this.#header);
  }
}

/** The trace of a request that is read when it is asked for. @internal */
export class LazyTrace implements RequestTrace {
  readonly #tracer: Tracer;
  readonly #request: object;

  constructor(tracer: Tracer, request: object) {
    this.#tracer = tracer;
    this.#request = request;
  }

  /** Returns what `holder` keeps of it, which does not keep the request; see `Tracer.keptBy`. */
  keptBy(holder: TraceHolder): RequestTrace | undefined {
    return this.#tracer.keptBy(holder, this.#request);
  }

  get requestId(): string {
    return this.#tracer.of(this.#request).requestId;
  }

  get traceparent(): string | undefined {
    return this.#tracer.of(this.#request).traceparent;
  }
}
