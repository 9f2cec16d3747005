import { describe, expect, it } from 'vitest';
import { REASONS, type RefusalCode } from '../dist/connections/refusal.js';
import { answerOf, codesOf, type Denial } from '../dist/guard/denial.js';
import { answerWith, lastOf } from '../dist/http/answer.js';
import { failure } from '../dist/validators/failure.js';
import { FAILURES } from '../dist/validators/failure-codes.js';

/** The answer, made anew each time. */
function naive({ code, reason, retryAfterMs, failure, cause }: Denial) {
  const [status] = codesOf({ code, reason, retryAfterMs, ...(failure && { failure }) });
  const body = JSON.stringify({ code, message: reason, retryAfterMs, ...(cause && { cause }) });
  const isChallenged = status === 401 || failure?.status === 403;
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      'content-length': String(Buffer.byteLength(body)),
      ...(isChallenged
        ? { 'www-authenticate': failure?.toWwwAuthenticate() ?? 'Bearer' }
        : retryAfterMs === 0
          ? {}
          : { 'retry-after': String(Math.ceil(retryAfterMs / 1000)) }),
    },
    body,
  };
}

it('the last answer of a connection is a copy: requests get the same answer and keep theirs', () => {
  const answer = answerWith(400, { code: 'invalid_host' });
  const before = structuredClone(answer);
  expect(lastOf(answer).headers).toEqual({ ...before.headers, connection: 'close' });
  expect(answer).toEqual(before);
});

describe('answerOf', () => {
  const codes = Object.keys(REASONS) as RefusalCode[];

  it('gives each refusal its own code and time, whatever was refused before', () => {
    for (const retryAfterMs of [1, 999, 1000, 1001, 44_999])
      for (const code of codes) {
        const denial = { code, reason: REASONS[code], retryAfterMs };
        expect(answerOf(denial)).toEqual(naive(denial));
        const loaded = { ...denial, cause: 'heap' };
        expect(answerOf(loaded)).toEqual(naive(loaded));
      }
  });

  it('gives each failure its own code and challenge', () => {
    for (const [code, , reason] of [...FAILURES, ...FAILURES]) {
      const denial = { code, reason, retryAfterMs: 0, failure: failure(code, { field: 'token' }) };
      expect(answerOf(denial)).toEqual(naive(denial));
    }
  });

  it("leaves no text of the application's in a later answer", () => {
    const denied = (reason: string) =>
      answerOf({ code: 'unauthorized', reason, retryAfterMs: 0 }).body;
    expect([denied('one'), denied('two')]).toEqual([
      '{"code":"unauthorized","message":"Unauthorized","reason":"one"}',
      '{"code":"unauthorized","message":"Unauthorized","reason":"two"}',
    ]);
  });
});
