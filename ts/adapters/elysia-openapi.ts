/** The answers of a guard in the documents that plugins of OpenAPI make of an app's routes. */
import type { AppRoute } from './elysia-app-routes.js';

/** Answers of the guard to a route. @internal */
export interface RouteAnswers {
  /** Whether the limits of requests hold. */
  readonly isLimited: boolean;
  /** Whether a request needs a token, or a handshake an identity. */
  readonly needsIdentity: boolean;
  /** Media type of the answers. */
  readonly mediaType: string;
}

const TEXTS: Readonly<Record<number, string>> = {
  401: 'No valid credentials',
  403: 'The page may not connect',
  413: 'The body is too large',
  429: 'The client has reached a limit; Retry-After says when to try again',
  503: 'The server is full, overloaded or draining; Retry-After says when to try again',
};
const WITHOUT_BODY: ReadonlySet<string> = new Set(['GET', 'HEAD']);
/** The body of a refusal, as a JSON schema. */
const BODY = {
  type: 'object',
  properties: {
    code: { type: 'string' },
    message: { type: 'string' },
    retryAfterMs: { type: 'integer' },
  },
  required: ['code'],
} as const;

/** Returns the statuses that a guard may answer a route's requests with. */
function statusesOf(method: string, { isLimited, needsIdentity }: RouteAnswers): readonly number[] {
  if (method === 'WS') return needsIdentity ? [401, 403, 429, 503] : [403, 429, 503];
  return [
    ...(needsIdentity ? [401] : []),
    ...(isLimited && !WITHOUT_BODY.has(method) ? [413] : []),
    ...(isLimited ? [429] : []),
    ...(isLimited || needsIdentity ? [503] : []),
  ];
}

/** True for one schema, in the place of one for each status. */
function isOneSchema(response: unknown): boolean {
  return (
    typeof response !== 'object' ||
    response === null ||
    'type' in response ||
    '$ref' in response ||
    '~standard' in response ||
    Object.getOwnPropertySymbols(response).length > 0
  );
}

/**
 * Adds the guard's answers to the description of a route; answers that the application describes stay. A
 * document shows the schemas of responses where a route has them, else `detail.responses`. Requests are judged by
 * the schemas that Elysia has compiled, which this does not change.
 * @internal
 */
export function describeRoute({ method, hooks }: AppRoute, answers: RouteAnswers): void {
  const statuses = statusesOf(method, answers);
  if (statuses.length === 0 || hooks.detail?.hide === true) return;
  const described = statuses.map((status): [number, object] => [
    status,
    {
      description: TEXTS[status] ?? '',
      content: { [answers.mediaType]: { schema: BODY } },
    },
  ]);
  hooks.detail = {
    ...hooks.detail,
    responses: { ...Object.fromEntries(described), ...hooks.detail?.responses },
  };
  if (hooks.response === undefined) return;
  const schemas = statuses.map((status) => [status, { ...BODY, description: TEXTS[status] }]);
  hooks.response = {
    ...(Object.fromEntries(schemas) as object),
    ...(isOneSchema(hooks.response) ? { 200: hooks.response } : (hooks.response as object)),
  };
}
