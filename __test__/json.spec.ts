import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import {
  InputValidationError,
  InputValidator,
  type JsonInput,
  type JsonLimits,
  jsonSchema,
  PortcullisError,
  parseJson,
  safeParseJson,
  scanJson,
} from '../dist/index.js';
import { agree } from './fixtures/agree.js';

const SUITE = '../shared/vectors/JSONTestSuite/test_parsing';

const codeOf = (input: JsonInput, limits?: JsonLimits): string | undefined => {
  const result = scanJson(input, limits);
  return result.success ? undefined : result.error.code;
};

describe('JSONTestSuite', () => {
  it.skipIf(!existsSync(SUITE))(
    existsSync(SUITE)
      ? 'has the results of RFC 8259 and the strict profile'
      : 'skipped: the vectors are not there',
    () => {
      const counts = { y: 0, n: 0, i: 0 };
      const verdicts: Record<string, string[]> = {};
      for (const file of readdirSync(SUITE)) {
        const bytes = readFileSync(`${SUITE}/${file}`);
        const kind = file[0] as 'y' | 'n' | 'i';
        counts[kind]++;
        // RFC 8259, section 4, allows repeated keys, which are refused by default.
        const result = scanJson(bytes, {
          duplicateKeys: file.includes('duplicated_key') ? 'allow' : 'refuse',
        });
        if (kind === 'y') {
          expect(result.success, file).toBe(true);
          expect(parseJson(bytes, { duplicateKeys: 'allow' }), file).toEqual(
            JSON.parse(bytes.toString()),
          );
          expect(scanJson(bytes.toString(), { duplicateKeys: 'allow' }).success, file).toBe(true);
        } else if (kind === 'n') {
          expect(result.success, file).toBe(false);
        } else {
          const code = result.success ? 'accepted' : result.error.code;
          (verdicts[code] ??= []).push(file.slice(2, -5));
          if (result.success) expect(() => JSON.parse(bytes.toString()), file).not.toThrow();
        }
      }
      expect(counts).toEqual({ y: 95, n: 188, i: 35 });
      expect(
        Object.fromEntries(Object.entries(verdicts).map(([code, files]) => [code, files.length])),
        JSON.stringify(verdicts),
      ).toEqual({
        accepted: 5,
        ERR_JSON_ENCODING: 12,
        ERR_JSON_SYNTAX: 2,
        ERR_JSON_SURROGATE: 10,
        ERR_JSON_NUMBER_RANGE: 5,
        ERR_JSON_DEPTH: 1,
      });
    },
  );

  it('accepts a depth of 500 if the limit allows it', () => {
    const text = '['.repeat(500) + ']'.repeat(500);
    expect(codeOf(text)).toBe('ERR_JSON_DEPTH');
    expect(codeOf(text, { maxDepth: 500 })).toBeUndefined();
    expect(codeOf(text, { maxDepth: 499 })).toBe('ERR_JSON_DEPTH');
  });
});

describe('scanJson', () => {
  it('has the same result for strings and bytes, of any type', () => {
    const wide = JSON.stringify({
      ключ: ['значение', '😀', '\u0001', 'x'.repeat(3000)],
      é: 1.5e-7,
    });
    for (const text of [
      '{"a":[1,2,{"b":null}]}',
      wide,
      `"${'é'.repeat(10_000)}"`,
      '"\u2028\uffff"',
    ]) {
      const bytes = new TextEncoder().encode(text);
      const forms = [
        text,
        bytes,
        Buffer.from(bytes),
        bytes.buffer,
        new DataView(bytes.buffer),
        new Uint16Array(0),
      ];
      for (const form of forms.slice(0, 5)) {
        expect(scanJson(form).success).toBe(true);
        expect(parseJson(form)).toEqual(JSON.parse(text));
      }
      expect(scanJson(bytes.subarray(0, -1)).success).toBe(false);
    }
  });

  it('reports figures of JSON that passed', () => {
    expect(scanJson('{"a":[1,"\\u0000",9007199254740993]}')).toEqual({
      success: true,
      value: { values: 5, depth: 2, isAscii: true, hasUnsafeIntegers: true, hasNul: true },
    });
    expect(scanJson('"é"')).toMatchObject({
      value: { isAscii: false, hasUnsafeIntegers: false, hasNul: false },
    });
  });

  it('reports code, byte offset, path and limit of a failure', () => {
    const error = (input: string, limits?: JsonLimits) => {
      const result = scanJson(input, limits);
      return result.success ? undefined : { ...result.error };
    };
    expect(error('{"é":[0,{"b":1,"b":2}]}')).toMatchObject({
      code: 'ERR_JSON_DUPLICATE_KEY',
      status: 400,
      field: 'payload',
      offset: 17,
      path: ['é', 1, 'b'],
    });
    expect(error('{"a\\n\\"":{"c":[1,[]]}}', { maxDepth: 3 })).toMatchObject({
      code: 'ERR_JSON_DEPTH',
      path: ['a\n"', 'c', 1],
      limit: 3,
    });
    expect(error('[1,2')).toMatchObject({ code: 'ERR_JSON_SYNTAX', offset: 4, path: [1] });
    expect(error('x'.repeat(11), { maxBytes: 10 })).toMatchObject({
      code: 'ERR_PAYLOAD_TOO_LARGE',
      status: 413,
      offset: 10,
      limit: 10,
    });
    expect(error('"é"', { maxBytes: 3 })).toMatchObject({
      code: 'ERR_PAYLOAD_TOO_LARGE',
      limit: 3,
    });
  });

  it('shortens a long path', () => {
    const deep = `${'{"a very long key that would fill the room for the path, because it is long":'.repeat(200)}x`;
    const result = scanJson(deep, { maxDepth: 500 });
    expect(result.success ? [] : result.error.path).toHaveLength(58);
    expect(result.success ? '' : result.error.path?.[0]).toMatch(/^a very long key.{49}…$/);
  });

  it('treats lone surrogates in strings like escaped ones', () => {
    expect(codeOf('"\ud800"')).toBe('ERR_JSON_SURROGATE');
    expect(codeOf('"\\ud800"')).toBe('ERR_JSON_SURROGATE');
    expect(codeOf('\ud800')).toBe('ERR_JSON_SYNTAX');
    const allow = { surrogates: 'allow' } as const;
    expect(codeOf('"\ud800"', allow)).toBeUndefined();
    expect(parseJson('["\udc00"]', allow)).toEqual(['\udc00']);
    expect(codeOf('{"\ud800":1,"\ud801":2}', allow)).toBeUndefined();
    expect(codeOf('{"\ud800":1,"\\ud800":2}', allow)).toBe('ERR_JSON_DUPLICATE_KEY');
  });

  it.each([
    ['"\\\ud800"', 'ERR_JSON_SYNTAX'],
    ['{"a":"\\\udc00"}', 'ERR_JSON_SYNTAX'],
    ['"\\\\\\\ud800"', 'ERR_JSON_SYNTAX'],
    ['"\\\\\ud800"', undefined],
  ])('a lone surrogate behind a backslash is no escape: %#', (text, code) => {
    expect(codeOf(text, { surrogates: 'allow' })).toBe(code);
    if (code === undefined) expect(parseJson(text, { surrogates: 'allow' })).toBe(JSON.parse(text));
    else expect(() => parseJson(text)).toThrow(InputValidationError);
  });

  it('takes memory of another realm', () => {
    for (const type of ['ArrayBuffer', 'SharedArrayBuffer']) {
      const memory: ArrayBuffer = runInNewContext(`new ${type}(2)`) as ArrayBuffer;
      new Uint8Array(memory).set([0x34, 0x32]);
      expect(memory instanceof ArrayBuffer).toBe(false);
      expect(parseJson(memory)).toBe(42);
    }
    expect(parseJson(runInNewContext('Uint8Array.of(0x37)') as Uint8Array)).toBe(7);
  });

  it('refuses transferred memory', () => {
    const memory = new ArrayBuffer(4);
    const view = new DataView(memory);
    structuredClone(memory, { transfer: [memory] });
    expect(codeOf(memory)).toBe('ERR_JSON_TYPE');
    expect(codeOf(view)).toBe('ERR_JSON_TYPE');
  });

  it.each([
    ['duplicateKeys', '{"a":1,"\\u0061":2}', 'ERR_JSON_DUPLICATE_KEY'],
    ['forbiddenKeys', '{"__proto__":{"isAdmin":true}}', 'ERR_JSON_FORBIDDEN_KEY'],
    ['forbiddenKeys', '{"\\u005f_proto__":1}', 'ERR_JSON_FORBIDDEN_KEY'],
    ['forbiddenKeys', '[{"constructor":{"x":1,"prototype":{}}}]', 'ERR_JSON_FORBIDDEN_KEY'],
    ['numberOverflow', '[1e309]', 'ERR_JSON_NUMBER_RANGE'],
    ['numberOverflow', `-${'9'.repeat(400)}`, 'ERR_JSON_NUMBER_RANGE'],
    ['unsafeIntegers', '9007199254740993', 'ERR_JSON_UNSAFE_INTEGER'],
    ['surrogates', '"\\udead"', 'ERR_JSON_SURROGATE'],
    ['nul', '"\\u0000"', 'ERR_JSON_NUL'],
  ] as const)('%s applies to %s', (rule, text, code) => {
    expect(codeOf(text, { [rule]: 'refuse' })).toBe(code);
    expect(codeOf(text, { [rule]: 'allow' })).toBeUndefined();
  });

  it('notices changed limits in the same object', () => {
    const limits: { maxDepth: number } = { maxDepth: 1 };
    expect(codeOf('[[]]', limits)).toBe('ERR_JSON_DEPTH');
    limits.maxDepth = 2;
    expect(codeOf('[[]]', limits)).toBeUndefined();
    expect(codeOf('[[]]')).toBeUndefined();
  });

  it('refuses other types of input, and wrong limits by name', () => {
    class Broken extends Uint8Array {
      override get buffer(): never {
        throw new Error('no');
      }
    }
    for (const junk of [
      undefined,
      null,
      5,
      {},
      [],
      Symbol('s'),
      () => 1,
      // These have the prototype of bytes, but no memory.
      new Proxy(new Uint8Array(1), {}),
      Object.create(Uint8Array.prototype),
      Object.create(ArrayBuffer.prototype),
      new Broken(1),
    ])
      expect(codeOf(junk as never)).toBe('ERR_JSON_TYPE');
    const wrong = (limits: object): unknown => {
      try {
        return scanJson('1', limits);
      } catch (error) {
        return error instanceof PortcullisError ? [error.code, error.field] : error;
      }
    };
    expect(wrong({ maxDepth: 513 })).toEqual(['ERR_OUT_OF_RANGE', 'limits.maxDepth']);
    expect(wrong({ maxBytes: Number.NaN })).toEqual(['ERR_OUT_OF_RANGE', 'limits.maxBytes']);
    expect(wrong({ maxdepth: 5 })).toEqual(['ERR_UNKNOWN_OPTION', 'limits.maxdepth']);
    expect(wrong({ nul: 'maybe' })).toEqual(['ERR_OUT_OF_RANGE', 'limits.nul']);
    expect(wrong({ nul: null })).toEqual(['ERR_OUT_OF_RANGE', 'limits.nul']);
    expect(wrong({ maxDepth: null })).toEqual(['ERR_INVALID_ARG_TYPE', 'limits.maxDepth']);
    expect(wrong(5 as never)).toEqual(['ERR_INVALID_ARG_TYPE', 'limits']);
    // The message tells the whole range.
    const ofItems = '0 to 4294967295, or Infinity';
    expect(() => scanJson('1', { maxItems: 2 ** 32 })).toThrow(ofItems);
    expect(() => InputValidator.validateJsonPayload(1, -1)).toThrow('or Infinity');
    expect(
      codeOf('[0,0]', { maxItems: Infinity, maxStringBytes: Infinity, maxValues: Infinity }),
    ).toBeUndefined();
  });

  it('skips a byte order mark where the limits allow it', () => {
    const text = '\ufeff{"a":"\u00e9"}';
    for (const input of [text, Buffer.from(text), `${text}${' '.repeat(40_000)}`]) {
      expect(safeParseJson(input)).toMatchObject({ error: { code: 'ERR_JSON_ENCODING' } });
      expect(safeParseJson(input, { byteOrderMark: 'allow' })).toEqual({
        success: true,
        value: { a: '\u00e9' },
      });
    }
    expect(safeParseJson(`\ufeff${text}`, { byteOrderMark: 'allow' })).toMatchObject({
      error: { code: 'ERR_JSON_SYNTAX', offset: 3 },
    });
    expect(parseJson('"\ufeff"')).toBe('\ufeff');
  });

  it('reads bare shared memory', () => {
    const shared = new SharedArrayBuffer(4);
    new Uint8Array(shared).set(Buffer.from('[12]'));
    expect(parseJson(shared)).toEqual([12]);
    expect(parseJson(new DataView(shared, 1, 2))).toBe(12);
    expect(jsonSchema()['~standard'].validate(shared)).toEqual({ value: [12] });
  });

  it('copies shared memory before it checks', () => {
    const shared = new Uint8Array(new SharedArrayBuffer(3));
    shared.set([0x5b, 0x31, 0x5d]);
    expect(parseJson(shared)).toEqual([1]);
  });

  it('accepts 10,000 keys, and finds repeated ones at any depth', () => {
    const keys = (count: number, last = ''): string =>
      `{${Array.from({ length: count }, (_, at) => `"k${at}":${at}`).join(',')}${last}}`;
    expect(codeOf(keys(10_000))).toBeUndefined();
    expect(codeOf(keys(10_001))).toBe('ERR_JSON_KEYS');
    expect(codeOf(keys(9000, ',"k77":0'))).toBe('ERR_JSON_DUPLICATE_KEY');
    const nested = '{"a":1,"b":2,"c":'.repeat(60) + keys(30, ',"k0":1') + '}'.repeat(60);
    expect(codeOf(nested)).toBe('ERR_JSON_DUPLICATE_KEY');
  });

  it('has the same result for long strings, which are scanned in parts, as for their bytes', () => {
    const limits = { maxBytes: 1 << 24, maxValues: 300_000 };
    const record = JSON.stringify({
      id: 1,
      name: 'x'.repeat(20),
      list: [1, 22, true, null, {}, [[]]],
    });
    const texts = [
      `[${'0,'.repeat(400_000)}0]`,
      `[${'0,'.repeat(200_000)}0]`,
      `[${'[],'.repeat(400_000)}0]`,
      `[${'0,'.repeat(40_000)}${'[]]'.repeat(40_000)}`,
      '['.repeat(1 << 20),
      `[${`${record},`.repeat(2000)}0]`,
      `[${`${record},`.repeat(2000)}0}`,
      `[${`${record},`.repeat(2000)}{"a":1,"a":2}]`,
      `[${`${record},`.repeat(200)}"${'y'.repeat(50_000)}",${record}]`,
      `[${`${record},`.repeat(200)}"${'y'.repeat(50_000)}",${record}`,
      `[${`${record},`.repeat(500)}"\u00e9",${`${record},`.repeat(500)}x]`,
      `[${`${record},`.repeat(500)}"\u{1f600}",${`${record},`.repeat(500)}0]`,
      `[${`${record},`.repeat(500)}"\ud800",${`${record},`.repeat(500)}0]`,
      `[${`${record},`.repeat(500)}1e999,${`${record},`.repeat(500)}0]`,
      `${' '.repeat(100_000)}1${' '.repeat(100_000)}`,
      `[1]${' '.repeat(100_000)}x`,
      `[${' '.repeat(100_000)}]`,
      `1${' '.repeat(100_000)}2`,
      `{${Array.from({ length: 9000 }, (_, i) => `"key${i}":${i}`).join(',')}}`,
      `{${Array.from({ length: 11_000 }, (_, i) => `"key${i}":${i}`).join(',')}}`,
    ];
    for (const text of texts) {
      for (let shift = 0; shift < 3; shift++) {
        const moved = ' '.repeat(shift) + text;
        const whole = scanJson(
          Buffer.from(moved.replace(/\ud800(?![\udc00-\udfff])/g, '\\ud800')),
          limits,
        );
        expect(scanJson(moved, limits), text.slice(0, 20)).toEqual(whole);
      }
    }
  });

  it('agrees with JSON.parse on text that is nearly JSON', () => {
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"a"',
      '"b":1',
      '1',
      '-0',
      '1.5e3',
      '"\\n"',
      '"\\u00e9"',
      'true',
      'null',
      ' ',
      '\n',
      '"é"',
      '""',
      '01',
      '.5',
    ];
    let seed = 7;
    const random = (): number => (seed = (seed * 48_271) % 2_147_483_647);
    for (let round = 0; round < 20_000; round++) {
      const text = Array.from(
        { length: 1 + (random() % 9) },
        () => pieces[random() % pieces.length],
      ).join('');
      let isJson = true;
      try {
        JSON.parse(text);
      } catch {
        isJson = false;
      }
      agree(scanJson(text, { duplicateKeys: 'allow' }).success, isJson, text);
    }
  });
});

describe('parseJson', () => {
  it('throws with code, status, offset and path, without text of the payload', () => {
    const error = (() => {
      try {
        return parseJson('{"secret-name":"secret-value",}');
      } catch (thrown) {
        return thrown;
      }
    })();
    expect(error).toBeInstanceOf(InputValidationError);
    expect(error).toMatchObject({
      code: 'ERR_JSON_SYNTAX',
      status: 400,
      field: 'payload',
      offset: 30,
      path: ['secret-name'],
    });
    expect(String(error)).toBe('InputValidationError: Invalid JSON syntax');
  });

  it('keeps -0, and returns ordinary objects', () => {
    expect(Object.is(parseJson('-0'), -0)).toBe(true);
    expect(safeParseJson('[]')).toEqual({ success: true, value: [] });
    expect(Object.getPrototypeOf(parseJson('{"__proto__":1}', { forbiddenKeys: 'allow' }))).toBe(
      Object.prototype,
    );
  });
});

describe('validateJsonPayload', () => {
  const check = InputValidator.safeValidateJsonPayload;

  it('returns the payload itself, and counts its size in bytes', () => {
    expect(InputValidator.validateJsonPayload(null)).toBeNull();
    expect(InputValidator.validateJsonPayload(undefined)).toBeNull();
    const payload = { a: 'é' };
    expect(InputValidator.validateJsonPayload(payload, 10)).toBe(payload);
    expect(() => InputValidator.validateJsonPayload(payload, 9)).toThrow('Payload too large');
    expect(() => InputValidator.validateJsonPayload('x'.repeat(2 ** 20 - 1))).toThrow(
      'Payload too large',
    );
    expect(InputValidator.validateJsonPayload('x'.repeat(2 ** 20 - 2))).toHaveLength(2 ** 20 - 2);
  });

  it('measures the bytes that JSON.stringify writes', () => {
    class Point {
      readonly x = 1;
      toJSON(key: string): unknown {
        return { x: this.x, key };
      }
    }
    const values: unknown[] = [
      0,
      -0,
      1.5e300,
      Number.NaN,
      Infinity,
      true,
      false,
      '',
      '"\\\b\f\n\r\t\u0001\u007f\u2028é漢😀\ud800x\udc00',
      [],
      [undefined, null, [1]],
      Array.from({ length: 3 }),
      { a: undefined, b: 1, [Symbol('s')]: 2 },
      { 'key "é"': { nested: [{}, {}] } },
      new Date(0),
      new Date(Number.NaN),
      [Object(5), Object('text'), Object(false)],
      new Point(),
      { p: new Point(), list: [new Point()] },
      new Map([[1, 2]]),
      Buffer.from('ab'),
      new Uint8Array(3),
      Object.create(null),
    ];
    for (const value of values) {
      const size = Buffer.byteLength(JSON.stringify(value));
      expect(check(value, size).success, JSON.stringify(value)).toBe(true);
      expect(check(value, size - 1), JSON.stringify(value)).toMatchObject({
        error: { code: 'ERR_PAYLOAD_TOO_LARGE' },
      });
    }
  });

  it('refuses a boxed BigInt', () => {
    expect(check(Object(1n))).toMatchObject({ error: { code: 'ERR_PAYLOAD_NOT_JSON', path: [] } });
    expect(check({ a: [Object(1n)] })).toMatchObject({
      error: { code: 'ERR_PAYLOAD_NOT_JSON', path: ['a', 0] },
    });
  });

  it('refuses values that JSON cannot hold, and names their place', () => {
    const cycle: { list: unknown[] } = { list: [1] };
    cycle.list.push(cycle);
    const big: Record<string, unknown> = { text: 'x'.repeat(9000) };
    big['self'] = big;
    let deep: unknown = 0;
    for (let i = 0; i < 600; i++) deep = [deep];
    const throwing = {
      get secret(): never {
        throw new Error('a secret');
      },
    };
    for (const [value, code] of [
      [() => 1, 'ERR_PAYLOAD_NOT_JSON'],
      [Symbol('s'), 'ERR_PAYLOAD_NOT_JSON'],
      [10n, 'ERR_PAYLOAD_NOT_JSON'],
      [{ a: [1, () => 1] }, 'ERR_PAYLOAD_NOT_JSON'],
      [{ toJSON: () => undefined }, 'ERR_PAYLOAD_NOT_JSON'],
      [cycle, 'ERR_PAYLOAD_CYCLE'],
      [big, 'ERR_PAYLOAD_CYCLE'],
      [deep, 'ERR_JSON_DEPTH'],
      [throwing, 'ERR_PAYLOAD_THROWS'],
    ] as const) {
      expect(check(value)).toMatchObject({ success: false, error: { code } });
    }
    expect(check({ a: [1, () => 1] })).toMatchObject({ error: { path: ['a', 1] } });
    expect(() => check(1, -1)).toThrow(PortcullisError);
  });
});
