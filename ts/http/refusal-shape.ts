/** The shape of the answers to refused clients, as the application wants it. */
import { lazily } from '../base/builtin.js';
import { outOfRange, wrongType } from '../base/errors.js';
import { Hooks, ignoreRejection, isThenable } from '../base/hooks.js';
import { HEADER_NAME, HEADER_VALUE } from '../base/header-fields.js';
import { optionsObject } from '../base/options.js';
import type { RequestTrace, Tracer } from '../base/trace.js';
import { type Answer, answerWith } from './answer.js';

const http = lazily(() => process.getBuiltinModule('node:http'));

/** A refusal by status, with the standard answer to it. */
export interface HttpRefusal {
  readonly status: number;
  /** Stable code. */
  readonly code: string;
  /** Text for the client. */
  readonly message: string;
  /** Milliseconds until a retry may succeed; absent where none will. */
  readonly retryAfterMs: number | undefined;
  /** Cause of `overload`, such as `event_loop_delay`; absent for other codes. */
  readonly cause?: string | undefined;
  /** Headers of the standard answer, with names in lower case; `refusalHeaders` among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Body of the standard answer. */
  readonly body: string;
  /** Id of the request; see `RequestTrace`. `undefined` where the host no longer has the request. */
  readonly requestId: string | undefined;
  /** Its `traceparent` (W3C Trace Context), if it has a valid one. */
  readonly traceparent: string | undefined;
}

/** An answer to a refused client. Missing parts are those of the standard answer. */
export interface RefusalAnswer {
  /** 400 to 599. */
  readonly status?: number | undefined;
  /** Headers on top of the standard ones. The server writes those of the connection and the length by itself. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly body?: string | undefined;
}

/** Options of the answers to refused clients. `R` is the request of the adapter. */
export interface RefusalOptions<R> {
  /**
   * Returns the answer to a refused request or handshake, or `undefined` for the standard one. It has to answer at
   * once. If it throws or returns anything else, the client gets the standard answer, and the error is a process
   * warning. Sockets that are refused by close code have no answer. Default: none.
   */
  readonly onRefused?:
    ((request: R | undefined, refusal: HttpRefusal) => RefusalAnswer | undefined) | undefined;
  /**
   * Headers of every refusal, by name: at most 32. Not those of the connection and of the body's length.
   * Default: none.
   */
  readonly refusalHeaders?: Readonly<Record<string, string>> | undefined;
  /**
   * Format of refusals. `json`: `{ code, message, retryAfterMs }`. `problem`: problem details (RFC 9457) of type
   * `application/problem+json`, with `code` and `retryAfterMs`. Default `json`.
   */
  readonly refusalFormat?: 'json' | 'problem' | undefined;
}

/** Names of these options. @internal */
export const REFUSAL_OPTIONS = ['onRefused', 'refusalHeaders', 'refusalFormat'] as const;

const HEADERS_MAX = 32;
/** Headers of the connection and of the length, which the server writes. */
const OWN: ReadonlySet<string> = new Set([
  'connection',
  'content-length',
  'keep-alive',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/**
 * Returns headers with names in lower case.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the header
 */
function checkedHeaders(field: string, headers: unknown): Record<string, string> {
  optionsObject(field, headers, "an object of headers such as { 'x-service': 'chat' }");
  const entries = Object.entries(headers as Record<string, unknown>);
  if (entries.length > HEADERS_MAX)
    throw outOfRange(field, entries.length, `at most ${HEADERS_MAX} headers`);
  return Object.fromEntries(
    entries.map(([name, value]) => {
      const lower = name.toLowerCase();
      const at = `${field}.${name.slice(0, 40)}`;
      if (typeof value !== 'string') throw wrongType(at, value, 'a string');
      if (!HEADER_NAME.test(name) || OWN.has(lower))
        throw outOfRange(at, name, 'the name of a header that the server does not write itself');
      if (!HEADER_VALUE.test(value))
        throw outOfRange(at, value, 'a value without control characters');
      return [lower, value];
    }),
  );
}

/** Returns the answer of `onRefused`, checked. */
function answerFrom(given: unknown, standard: HttpRefusal): RefusalAnswer | undefined {
  if (given === undefined) return undefined;
  ignoreRejection(given);
  const allowed = 'a function that returns { status, headers, body } or undefined';
  if (typeof given !== 'object' || given === null || isThenable(given) || given instanceof Response)
    throw wrongType('onRefused', given, allowed);
  const { status = standard.status, headers = {}, body = standard.body } = given as RefusalAnswer;
  if (!Number.isInteger(status) || status < 400 || status > 599)
    throw outOfRange('onRefused', status, 'a function that returns a status of 400 to 599');
  if (typeof body !== 'string')
    throw wrongType('onRefused', body, 'a function that returns its body as a string');
  return { status, headers: checkedHeaders('onRefused.headers', headers), body };
}

/** Shapes the answers of one guard. @internal */
export class RefusalShape<R> {
  readonly #onRefused: RefusalOptions<R>['onRefused'];
  readonly #headers: Readonly<Record<string, string>>;
  readonly #isProblem: boolean;
  readonly #tracer: Tracer | undefined;
  readonly #hooks = new Hooks();

  /**
   * Returns the shape that the options ask for; `undefined` for the standard one.
   * @param tracer reads the traces of requests
   * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, naming the field
   */
  static of<R>(options: RefusalOptions<R>, tracer?: Tracer): RefusalShape<R> | undefined {
    const shape = new RefusalShape<R>(options, tracer);
    return REFUSAL_OPTIONS.some((name) => options[name] !== undefined) ? shape : undefined;
  }

  private constructor(options: RefusalOptions<R>, tracer: Tracer | undefined) {
    const { onRefused, refusalHeaders, refusalFormat = 'json' } = options;
    this.#tracer = tracer;
    if (onRefused !== undefined && typeof onRefused !== 'function')
      throw wrongType('onRefused', onRefused, 'a function');
    if (refusalFormat !== 'json' && refusalFormat !== 'problem')
      throw outOfRange('refusalFormat', refusalFormat, "'json' or 'problem'");
    this.#onRefused = onRefused;
    this.#headers =
      refusalHeaders === undefined ? {} : checkedHeaders('refusalHeaders', refusalHeaders);
    this.#isProblem = refusalFormat === 'problem';
  }

  /** Media type of the bodies. */
  get mediaType(): string {
    return this.#isProblem ? 'application/problem+json' : 'application/json';
  }

  /** Returns the answer of the application in the place of `answer`, whose body is JSON. */
  shaped(answer: Answer, request: R | undefined): Answer {
    const fields = JSON.parse(answer.body) as {
      readonly code: string;
      readonly message: string;
      readonly retryAfterMs?: number;
      readonly cause?: string;
    };
    const { code, message, retryAfterMs, ...rest } = fields;
    const { status } = answer;
    const formatted = this.#isProblem
      ? answerWith(status, {
          type: 'about:blank',
          title: http().STATUS_CODES[status] ?? 'Error',
          status,
          detail: message,
          code,
          ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
          ...rest,
        })
      : answer;
    const ofProblem = this.#isProblem
      ? {
          'content-type': this.mediaType,
          'content-length': String(Buffer.byteLength(formatted.body)),
        }
      : undefined;
    const headers = Object.assign({}, answer.headers, ofProblem, this.#headers);
    const standard: Answer = { status, headers, body: formatted.body };
    if (this.#onRefused === undefined) return standard;
    const { cause } = fields;
    const tracer = this.#tracer;
    const trace = (): RequestTrace | undefined =>
      typeof request === 'object' && request !== null ? tracer?.of(request) : undefined;
    const refusal: HttpRefusal = {
      code,
      message,
      retryAfterMs,
      ...(cause === undefined ? {} : { cause }),
      ...standard,
      get requestId() {
        return trace()?.requestId;
      },
      get traceparent() {
        return trace()?.traceparent;
      },
    };
    let own: RefusalAnswer | undefined;
    this.#hooks.run('onRefused', () => {
      own = answerFrom(this.#onRefused?.(request, refusal), refusal);
    });
    if (own === undefined) return standard;
    const { status: ownStatus = status, headers: ownHeaders = {}, body = standard.body } = own;
    return {
      status: ownStatus,
      headers: {
        ...headers,
        ...ownHeaders,
        'content-length': String(Buffer.byteLength(body)),
      },
      body,
    };
  }
}
