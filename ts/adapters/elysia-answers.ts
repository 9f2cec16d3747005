/**
 * Passes refusals through the hooks of an Elysia app. The limits of requests stand around the whole app, so their
 * answers would leave out the headers of CORS, without which a browser's `fetch` sees a network error in the place
 * of a status, and `onError`.
 */
import type { Answer } from '../http/answer.js';
import { responseOf } from '../http/fetch.js';
import { functionsOf, type ScopedApp } from './elysia-app-routes.js';

/** The context of a request, as far as answers need it. */
export interface AnswerContext {
  readonly set: { headers: Record<string, unknown> | Headers; status?: number | string };
}

/** An app, as far as Elysia's types hide it. */
interface AnsweringApp extends ScopedApp {
  readonly event: { readonly request?: unknown; readonly error?: unknown };
  readonly setHeaders?: object | undefined;
  handleError(context: AnswerContext, error: unknown): Response | Promise<Response>;
}

/** Elysia's own `status()`: given, since a bundle shares this module with adapters that need no Elysia. */
type StatusError = (status: number, body: unknown) => unknown;
type RequestHook = (context: AnswerContext) => unknown;

/** A request that is refused before its route: no hook behind the guard's is to run by itself. */
interface Held {
  context: AnswerContext | undefined;
}

/** The hooks of an app at the last look. */
interface Looked {
  readonly app: AnsweringApp;
  readonly requests: number;
  readonly errors: number;
  readonly setHeaders: object | undefined;
}

/** Returns the number of hooks of one event: an array, a single one, or none. */
const countOf = (hooks: unknown): number =>
  Array.isArray(hooks) ? hooks.length : hooks === undefined || hooks === null ? 0 : 1;

/** Headers that follow from the body, or that the server writes. */
const OF_BODY = ['content-type', 'content-length', 'content-encoding', 'transfer-encoding', 'etag'];

type ContextHeaders = AnswerContext['set']['headers'];

export function setHeader(headers: ContextHeaders, name: string, value: string): void {
  if (headers instanceof Headers) headers.set(name, value);
  else headers[name] = value;
}

/** Replaces the headers of a context by those of an answer, but for those that follow from the body. */
function replaceHeaders(headers: ContextHeaders, answer: Answer): void {
  for (const name of OF_BODY) {
    if (headers instanceof Headers) headers.delete(name);
    else delete headers[name];
  }
  for (const [name, value] of Object.entries(answer.headers))
    if (!OF_BODY.includes(name)) setHeader(headers, name, value);
}

/**
 * Returns the body of an answer for Elysia, and writes its media type. The body is bytes, since the adapter for Node
 * sends every string as `text/plain`.
 */
function bytesOf({ headers, body }: Answer, set: AnswerContext['set']): Uint8Array {
  const type = headers['content-type'];
  if (type !== undefined) setHeader(set.headers, 'content-type', type);
  return Buffer.from(body);
}

/**
 * The fields of a JSON body, as hooks of `onError` see them. Elysia calls `toResponse` once the body is the answer:
 * only then its media type holds, and a hook that answers in its place has its own.
 */
class JsonBody {
  readonly #answer: Answer;
  readonly #set: AnswerContext['set'];

  constructor(fields: object, answer: Answer, set: AnswerContext['set']) {
    Object.assign(this, fields);
    this.#answer = answer;
    this.#set = set;
  }

  toResponse(): Uint8Array {
    return bytesOf(this.#answer, this.#set);
  }
}

/** Text of another media type than `text/plain`, as hooks of `onError` see it. */
class TypedText extends String {
  readonly #answer: Answer;
  readonly #set: AnswerContext['set'];

  constructor(text: string, answer: Answer, set: AnswerContext['set']) {
    super(text);
    this.#answer = answer;
    this.#set = set;
  }

  toResponse(): Uint8Array {
    return bytesOf(this.#answer, this.#set);
  }
}

/** Returns the value of a JSON body, and any other body as it is. */
function valueOf({ headers, body }: Answer): unknown {
  try {
    return headers['content-type']?.endsWith('json') === true ? JSON.parse(body) : body;
  } catch {
    // A body of the application that only claims to be JSON stays as it is.
    return body;
  }
}

/**
 * Returns the error that stands for an answer: what `status()` returns, which hooks of `onError` know. Writes the
 * headers of the answer to the context.
 */
function errorOf(answer: Answer, { set }: AnswerContext, errorWith: StatusError): unknown {
  const { status, headers } = answer;
  replaceHeaders(set.headers, answer);
  const value = valueOf(answer);
  const type = headers['content-type'];
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return errorWith(status, new JsonBody(value, answer, set));
  if (typeof value === 'string' && type !== 'text/plain')
    return errorWith(status, new TypedText(value, answer, set));
  if (type !== undefined) setHeader(set.headers, 'content-type', type);
  return errorWith(status, value);
}

/** Answers refused requests of the apps that use one plugin. @internal */
export class AppAnswers {
  /** Keys of a request's context and of its refusal, on the request. */
  readonly #contextKey = Symbol('portcullis.context');
  readonly #heldKey = Symbol('portcullis.refused');
  readonly #appOf: () => AnsweringApp | undefined;
  /** Hooks of `onError` that the guard's own builder has registered, which no answer has to pass. */
  readonly #ownErrorHooks: number;
  #hook: unknown;
  /** The app whose hooks were looked through last, and what it had then. */
  #looked: Looked | undefined;
  #passesHooks = false;
  readonly #errorWith: StatusError;

  /** @param appOf returns the app of the server */
  constructor(appOf: () => ScopedApp | undefined, ownErrorHooks: number, errorWith: StatusError) {
    this.#errorWith = errorWith;
    this.#appOf = appOf as () => AnsweringApp | undefined;
    this.#ownErrorHooks = ownErrorHooks;
  }

  /** Notes the guard's own hook of `onRequest`: the hooks behind it are those that a refusal has not passed. */
  follow(hook: unknown): void {
    this.#hook = hook;
  }

  #stateOf(request: Request): { [key: symbol]: AnswerContext | Held | undefined } {
    return request as unknown as { [key: symbol]: AnswerContext | Held | undefined };
  }

  /**
   * A request that Elysia serves.
   * @returns a response that ends the work on a refused request; it is dropped
   */
  request(request: Request, context: AnswerContext): Response | undefined {
    const state = this.#stateOf(request);
    const held = state[this.#heldKey] as Held | undefined;
    if (held === undefined) {
      // Kept for an app with hooks only: it costs a tenth of a bare request or more (bench/elysia-context.mjs).
      const app = this.#appOf();
      if (app === undefined || this.#passes(app)) state[this.#contextKey] = context;
      return undefined;
    }
    held.context = context;
    return new Response();
  }

  /** True if answers pass hooks or headers of the app, or if the app is not known. */
  get passesHooks(): boolean {
    const app = this.#appOf();
    return app === undefined || this.#passes(app);
  }

  /** True if answers of an app pass hooks or headers of its own. Looks again only when their number has changed. */
  #passes(app: AnsweringApp): boolean {
    const { event, setHeaders } = app;
    const requests = countOf(event.request);
    const errors = countOf(event.error);
    const looked = this.#looked;
    if (
      looked?.app === app &&
      looked.requests === requests &&
      looked.errors === errors &&
      looked.setHeaders === setHeaders
    )
      return this.#passesHooks;
    this.#looked = { app, requests, errors, setHeaders };
    this.#passesHooks = this.#look(app);
    return this.#passesHooks;
  }

  #look(app: AnsweringApp): boolean {
    return (
      app.setHeaders !== undefined ||
      this.#handlesErrors(app) ||
      functionsOf(app.event.request).some((hook) => hook !== this.#hook)
    );
  }

  /** True if an app has hooks of `onError`. */
  #handlesErrors(app: AnsweringApp): boolean {
    return functionsOf(app.event.error).length > this.#ownErrorHooks;
  }

  /**
   * Answers a refused request.
   * @param handle serves the request by the app
   */
  answer(
    answer: Answer,
    request: Request,
    handle: (request: Request) => unknown,
  ): Response | Promise<Response> {
    const app = this.#appOf();
    if (app === undefined || !this.#passes(app)) return responseOf(answer);
    const context = this.#stateOf(request)[this.#contextKey] as AnswerContext | undefined;
    return this.#passed(answer, request, handle, app, context).catch(() => responseOf(answer));
  }

  async #passed(
    answer: Answer,
    request: Request,
    handle: (request: Request) => unknown,
    app: AnsweringApp,
    known: AnswerContext | undefined,
  ): Promise<Response> {
    // A handler that took too long has had the hooks of its request run already.
    if (known !== undefined) return this.#respond(answer, app, known);
    const held: Held = { context: undefined };
    this.#stateOf(request)[this.#heldKey] = held;
    const early = await handle(request);
    const { context } = held;
    // An earlier hook has answered, as CORS does for OPTIONS.
    if (context === undefined) return early instanceof Response ? early : responseOf(answer);
    const hooks = functionsOf(app.event.request) as readonly RequestHook[];
    for (const hook of hooks.slice(hooks.indexOf(this.#hook as RequestHook) + 1)) {
      const value = await hook(context);
      if (value instanceof Response) return withHeaders(value, context);
      if (value !== undefined) break;
    }
    return this.#respond(answer, app, context);
  }

  async #respond(answer: Answer, app: AnsweringApp, context: AnswerContext): Promise<Response> {
    if (this.#handlesErrors(app))
      return app.handleError(context, errorOf(answer, context, this.#errorWith));
    replaceHeaders(context.set.headers, answer);
    return withHeaders(responseOf(answer), context);
  }

  /**
   * Answers a request that a hook of its route refuses, from within that hook.
   * @returns the response of the route
   * @throws where the app has hooks of `onError`, which the answer passes then
   */
  inRoute(answer: Answer, context: AnswerContext): Response {
    const app = this.#appOf();
    const { set } = context;
    // Elysia answers an error of a route with 500 unless a status is set, and the response of a hook with 200.
    set.status = answer.status;
    if (app !== undefined && this.#handlesErrors(app))
      throw errorOf(answer, context, this.#errorWith);
    replaceHeaders(set.headers, answer);
    // Hooks of `mapResponse` may write any object as JSON. Without `toJSON`, a response would be `{}`.
    return Object.assign(responseOf(answer), { toJSON: () => valueOf(answer) });
  }
}

/** Adds the headers that hooks have set to a response, which keeps its own. */
function withHeaders(response: Response, { set }: AnswerContext): Response {
  const headers = new Headers(response.headers);
  const others = set.headers instanceof Headers ? [...set.headers] : Object.entries(set.headers);
  for (const [name, value] of others) {
    if (response.headers.has(name)) continue;
    for (const one of Array.isArray(value) ? value : [value])
      if (one !== undefined && one !== null) headers.append(name, String(one));
  }
  return new Response(response.body, { status: response.status, headers });
}
