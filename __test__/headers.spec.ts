import { validateHeaderName, validateHeaderValue } from 'node:http';
import { describe, expect, it } from 'vitest';
import { InputValidationError, InputValidator, PortcullisError } from '../dist/index.js';

const { validateHeaders, safeValidateHeaders } = InputValidator;
const report = (headers: unknown, limits?: Parameters<typeof safeValidateHeaders>[1]) => {
  const result = safeValidateHeaders(headers, limits);
  if (!result.success) throw new Error(result.error.code);
  return result.value;
};
const codes = (headers: unknown, limits?: Parameters<typeof safeValidateHeaders>[1]): string[] =>
  report(headers, limits).dropped.map(({ code }) => code);

describe('validateHeaders', () => {
  it('returns an object without a prototype, empty for other types of input', () => {
    const headers = validateHeaders({ Host: 'a', 'X-Thing': 'b', 'x-number': 5 });
    expect(headers).toEqual(Object.assign(Object.create(null), { host: 'a', 'x-thing': 'b' }));
    expect(Object.getPrototypeOf(headers)).toBeNull();
    for (const junk of [undefined, null, 5, 'text', true, Symbol('s')]) {
      expect(validateHeaders(junk)).toEqual({});
      expect(Object.getPrototypeOf(validateHeaders(junk))).toBeNull();
    }
  });

  it('reads headers in every form that hosts use', () => {
    const expected = { host: 'a', 'x-b': 'c, d' };
    expect({ ...validateHeaders({ Host: 'a', 'X-B': ['c', 'd'] }) }).toEqual(expected);
    expect({ ...validateHeaders(['Host', 'a', 'X-B', 'c', 'x-b', 'd']) }).toEqual(expected);
    const pairs: [string, string][] = [
      ['Host', 'a'],
      ['X-B', 'c'],
      ['x-b', 'd'],
    ];
    expect({ ...validateHeaders(pairs) }).toEqual(expected);
    expect({ ...validateHeaders(new Headers(pairs)) }).toEqual(expected);
    expect({ ...validateHeaders(new Map(pairs)) }).toEqual(expected);
    expect({
      ...validateHeaders(
        Object.assign(Object.create({ inherited: 'x' }), { host: 'a', 'x-b': 'c, d' }),
      ),
    }).toEqual(expected);
  });

  it('agrees with Node on every octet of names and values', () => {
    const isFine = (check: () => void): boolean => {
      try {
        check();
        return true;
      } catch {
        return false;
      }
    };
    for (let code = 0; code <= 0x180; code++) {
      const text = String.fromCharCode(code);
      const asName = isFine(() => validateHeaderName(`x${text}`));
      expect(Object.keys(validateHeaders({ [`x${text}`]: 'v' })), `name ${code}`).toHaveLength(
        asName ? 1 : 0,
      );
      const asValue = isFine(() => validateHeaderValue('x', `v${text}`));
      expect(codes({ x: `v${text}` }), `value ${code}`).toEqual(
        asValue ? [] : ['ERR_HEADER_VALUE'],
      );
    }
    expect(codes({ '': 'v' })).toEqual(['ERR_HEADER_NAME']);
  });

  it('checks the grammar before it turns names into small letters', () => {
    // The Kelvin sign becomes k, the dotted capital I two letters.
    expect(codes({ 'coo\u212aie': 'a', '\u0130': 'b' })).toEqual([
      'ERR_HEADER_NAME',
      'ERR_HEADER_NAME',
    ]);
    expect(report({ 'x\r\nset-cookie': 'a' }).dropped).toEqual([
      { name: 'x??set-cookie', code: 'ERR_HEADER_NAME', reason: 'Header name is not a token' },
    ]);
  });

  it('limits names and values, with larger limits for values that hold tokens and addresses', () => {
    const of = (length: number): string => 'x'.repeat(length);
    for (const [name, cap] of [
      ['authorization', 8192],
      ['sec-websocket-protocol', 8192],
      ['dpop', 8192],
      ['x-amzn-oidc-data', 8192],
      ['cookie', 4096],
      ['referer', 4096],
      ['x-other', 1000],
    ] as const) {
      expect(codes({ [name]: of(cap) }), name).toEqual([]);
      expect(codes({ [name]: of(cap + 1) }), name).toEqual(['ERR_HEADER_VALUE_TOO_LONG']);
    }
    expect(codes({ [of(100)]: 'v' })).toEqual([]);
    expect(codes({ [of(101)]: 'v' })).toEqual(['ERR_HEADER_NAME_TOO_LONG']);
    expect(codes({ host: 'v' }, { maxNameBytes: 3 })).toEqual(['ERR_HEADER_NAME_TOO_LONG']);
    expect(
      codes({ 'X-Big': of(2000), host: 'ab' }, { valueCaps: { 'x-big': 2000, Host: 1 } }),
    ).toEqual(['ERR_HEADER_VALUE_TOO_LONG']);
  });

  it('limits the count and the size of all headers', () => {
    const many = Object.fromEntries(Array.from({ length: 103 }, (_, at) => [`x-${at}`, 'v']));
    expect(codes(many)).toEqual(['ERR_HEADERS_COUNT', 'ERR_HEADERS_COUNT', 'ERR_HEADERS_COUNT']);
    expect(Object.keys(validateHeaders(many))).toHaveLength(100);
    expect(codes({ ab: 'cd', ef: 'gh' }, { maxTotalBytes: 8 })).toEqual([]);
    expect(codes({ ab: 'cd', ef: 'gh' }, { maxTotalBytes: 7 })).toEqual(['ERR_HEADERS_TOO_LARGE']);
    const flood = report(Array.from({ length: 20_000 }, (_, at) => `x-${at}`));
    expect([flood.dropped.length, flood.droppedCount]).toEqual([100, 9900]);
    expect(report({ 'x-a': Array.from({ length: 10_000 }, () => 'v') }).dropped.at(-1)?.code).toBe(
      'ERR_HEADERS_COUNT',
    );
  });

  it('changes no prototype, whatever the names', () => {
    const headers = JSON.parse(
      '{"__proto__":"x","constructor":"y","prototype":"z","toString":"w","hasOwnProperty":"v"}',
    ) as object;
    const kept = validateHeaders(headers);
    expect(Object.keys(kept).toSorted()).toEqual([
      'constructor',
      'hasownproperty',
      'prototype',
      'tostring',
    ]);
    expect(codes(headers)).toEqual(['ERR_HEADER_FORBIDDEN']);
    expect(codes(['__proto__', 'x'])).toEqual(['ERR_HEADER_FORBIDDEN']);
  });

  it('joins repeated headers, and drops all fields of a name that may come only once', () => {
    expect({
      ...validateHeaders(['Cookie', 'a=1', 'cookie', 'b=2', 'Accept', 'x', 'ACCEPT', 'y']),
    }).toEqual({ cookie: 'a=1; b=2', accept: 'x, y' });
    for (const name of ['host', 'content-length', 'authorization', 'x-real-ip', 'true-client-ip']) {
      expect({ ...validateHeaders([name, '1', name.toUpperCase(), '1']) }, name).toEqual({
        [name]: '1',
      });
      expect(codes([name, '1', name.toUpperCase(), '2', name, '3']), name).toEqual([
        'ERR_HEADER_DUPLICATE',
        'ERR_HEADER_DUPLICATE',
        'ERR_HEADER_DUPLICATE',
      ]);
      expect({ ...validateHeaders({ [name]: '1', [name.toUpperCase()]: '2' }) }, name).toEqual({});
    }
    // `Headers` joins both values with a comma.
    expect({ ...validateHeaders({ 'x-real-ip': '192.0.2.1, 198.51.100.7' }) }).toEqual({});
    expect({ ...validateHeaders(['x', '1', 'X', '2'], { duplicates: 'first' }) }).toEqual({
      x: '1',
    });
    expect({ ...validateHeaders(['x', '1', 'X', '2'], { duplicates: 'refuse' }) }).toEqual({});
    expect(codes(['x', 'v'.repeat(600), 'x', 'v'.repeat(600)])).toEqual([
      'ERR_HEADER_VALUE_TOO_LONG',
    ]);
  });

  it('drops values that break the grammar by which readers find the end and the server', () => {
    for (const [name, wrong, right] of [
      ['content-length', ['4 2', '+1', '-1', '0x10', '', '1.0', '1e3', '٣'], ['0', '42', '007']],
      [
        'host',
        ['a b', 'a/b', 'a\\b', 'a?b', 'user@a', 'a#b', 'a:80a', 'a:80:80', '[::1', '<a>', 'a\tb'],
        ['', 'a', 'a.example:8080', '[::1]:80', '192.0.2.1', 'a_b', 'xn--bcher-kva.example', 'a:'],
      ],
      [
        'transfer-encoding',
        [
          'xchunked',
          'chunked, chunked',
          'identity',
          'chunked, gzip',
          '',
          'chunked;q=1',
          ' chunked',
        ],
        ['chunked', 'Chunked', 'gzip, chunked', 'gzip ,\tchunked'],
      ],
    ] as const) {
      for (const value of wrong) {
        const expected = value === '٣' ? 'ERR_HEADER_VALUE' : 'ERR_HEADER_SYNTAX';
        for (const headers of [{ [name]: value }, [name, value], new Map([[name, value]])])
          expect(codes(headers), `${name}: ${value}`).toEqual([expected]);
        const strict = safeValidateHeaders({ [name]: value }, { strict: true });
        expect(strict, `${name}: ${value}`).toMatchObject({ error: { code: expected } });
      }
      for (const value of right)
        for (const headers of [{ [name]: value }, [name, value], new Map([[name, value]])])
          expect({ ...validateHeaders(headers) }, `${name}: ${value}`).toEqual({ [name]: value });
      // Readers may take either of a right and a wrong value.
      expect(codes([name, right[0], name, wrong[0]]), name).toEqual([
        'ERR_HEADER_SYNTAX',
        'ERR_HEADER_SYNTAX',
      ]);
    }
  });

  it('drops a length beside a transfer coding, whatever their order', () => {
    const both = [
      ['content-length', '5', 'transfer-encoding', 'chunked'],
      ['Transfer-Encoding', 'chunked', 'Content-Length', '5'],
    ];
    for (const list of both) {
      const { headers, dropped } = report(list);
      expect({ ...headers }).toEqual({ 'transfer-encoding': 'chunked' });
      expect(dropped.map(({ name, code }) => [name, code])).toEqual([
        ['content-length', 'ERR_HEADER_FRAMING'],
      ]);
      expect(safeValidateHeaders(list, { strict: true })).toMatchObject({
        error: { code: 'ERR_HEADER_FRAMING', status: 400 },
      });
    }
    expect({
      ...validateHeaders({ 'transfer-encoding': 'xchunked', 'content-length': '5' }),
    }).toEqual({});
    expect({
      ...validateHeaders(['transfer-encoding', 'chunked', 'transfer-encoding', 'chunked']),
    }).toEqual({});
  });

  it('keeps every set-cookie apart, in every shape of headers', () => {
    const cookies = ['a=1; Expires=Wed, 21 Oct 2026 07:28:00 GMT', 'b=2'];
    const shapes = [
      { 'set-cookie': cookies },
      { 'Set-Cookie': cookies[0], 'set-cookie': [cookies[1]] },
      cookies.map((cookie) => ['set-cookie', cookie]),
      cookies.flatMap((cookie) => ['Set-Cookie', cookie]),
      new Headers(cookies.map((cookie) => ['set-cookie', cookie] as [string, string])),
    ];
    for (const duplicates of ['join', 'first', 'refuse'] as const) {
      for (const given of shapes)
        expect({ ...validateHeaders(given, { duplicates }) }, JSON.stringify(given)).toEqual({
          'set-cookie': cookies,
        });
    }
    // Twice: the names remembered from the last object must not change the next result.
    for (let i = 0; i < 2; i++)
      expect({ ...validateHeaders({ 'set-cookie': 'a=1' }) }).toEqual({ 'set-cookie': ['a=1'] });
    expect(report({ 'set-cookie': ['a=1', 'b=\n', 5, 'x'.repeat(1001)] })).toMatchObject({
      headers: { 'set-cookie': ['a=1'] },
      droppedCount: 3,
    });
    expect(codes({ 'set-cookie': ['', '', ''] }, { maxCount: 2 })).toEqual(['ERR_HEADERS_COUNT']);
    expect(codes({ 'set-cookie': ['a', 'b'] }, { maxTotalBytes: 15 })).toEqual([
      'ERR_HEADERS_TOO_LARGE',
    ]);
  });

  it('drops a host or content-length that Headers joined from several', () => {
    const headers = new Headers([
      ['content-length', '5'],
      ['content-length', '6'],
      ['host', 'a'],
      ['host', 'b'],
      ['accept', 'a, b'],
    ]);
    for (const given of [headers, Object.fromEntries(headers)]) {
      expect({ ...validateHeaders(given) }).toEqual({ accept: 'a, b' });
      expect(codes(given)).toEqual(['ERR_HEADER_DUPLICATE', 'ERR_HEADER_DUPLICATE']);
    }
    expect(report(['host', 'a', 'host', 'a, b', 'host', 'a'])).toMatchObject({
      headers: {},
      droppedCount: 3,
    });
  });

  it('fails with strict where a header would be dropped, without showing its value', () => {
    const headers = { 'X-Token': 'secret\u0000' };
    expect(safeValidateHeaders(headers, { strict: true })).toMatchObject({
      success: false,
      error: { code: 'ERR_HEADER_VALUE', field: 'X-Token' },
    });
    expect(() => validateHeaders(headers, { strict: true })).toThrow(InputValidationError);
    expect(safeValidateHeaders(5, { strict: true })).toMatchObject({
      error: { code: 'ERR_HEADERS_TYPE' },
    });
    expect(JSON.stringify(safeValidateHeaders(headers, { strict: true }))).not.toContain('secret');
    expect(safeValidateHeaders({ host: 'a' }, { strict: true }).success).toBe(true);
  });

  it('refuses wrong limits by name, and drops wrong headers', () => {
    const wrong = (limits: object): unknown => {
      try {
        return validateHeaders({}, limits);
      } catch (error) {
        return error instanceof PortcullisError ? [error.code, error.field] : error;
      }
    };
    expect(wrong({ maxCount: -1 })).toEqual(['ERR_OUT_OF_RANGE', 'maxCount']);
    expect(wrong({ maxcount: 1 })).toEqual(['ERR_UNKNOWN_OPTION', 'maxcount']);
    expect(wrong({ duplicates: 'last' })).toEqual(['ERR_OUT_OF_RANGE', 'duplicates']);
    expect(wrong({ strict: 1 })).toEqual(['ERR_INVALID_ARG_TYPE', 'strict']);
    expect(wrong({ valueCaps: { 'a b': 1 } })).toEqual(['ERR_OUT_OF_RANGE', 'valueCaps']);
    expect(codes([['a', 'b', 'c'], 5, null, [1, 'x']])).toHaveLength(4);
    expect(codes(['a', 'b', 'c'])).toEqual(['ERR_HEADER_VALUE_TYPE']);
    expect(codes([5, 'b', null, 'd'])).toEqual(['ERR_HEADER_NAME', 'ERR_HEADER_NAME']);
    expect(codes({ a: null, b: [['nested']], c: Symbol('s'), d: undefined })).toEqual(
      Array.from({ length: 3 }, () => 'ERR_HEADER_VALUE_TYPE'),
    );
  });

  it('refuses headers that throw when they are read', () => {
    const thrower = {
      get a(): string {
        throw new Error('a secret');
      },
    };
    const { proxy, revoke } = Proxy.revocable({}, {});
    revoke();
    for (const headers of [thrower, proxy, new Proxy({}, { ownKeys: () => thrower.a as never })]) {
      expect(safeValidateHeaders(headers)).toMatchObject({
        success: false,
        error: { code: 'ERR_HEADERS_TYPE', field: 'headers' },
      });
      expect(() => validateHeaders(headers)).toThrow(InputValidationError);
    }
  });

  it('remembers valid names only', () => {
    for (let round = 0; round < 3; round++) {
      expect({ ...validateHeaders({ a: '1', b: '2' }) }).toEqual({ a: '1', b: '2' });
      expect({ ...validateHeaders({ b: '1', 'a b': '2', c: '3' }) }).toEqual({ b: '1', c: '3' });
      expect({ ...validateHeaders({ B: '1', A: '2' }) }).toEqual({ b: '1', a: '2' });
      expect(codes({ a: '1', b: '2' }, { maxNameBytes: 1, valueCaps: { b: 0 } })).toEqual([
        'ERR_HEADER_VALUE_TOO_LONG',
      ]);
    }
  });
});
