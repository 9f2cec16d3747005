import { afterEach, describe, expect, it, vi } from 'vitest';
import { Origins, isSameHost, originOf } from '../dist/guard/origins.js';
import { TrustedProxies } from '../dist/native/addon.js';
import { PortcullisError } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';
import { inFull } from './fixtures/long.js';

type Headers = Readonly<Record<string, string>>;
type Allowed = ConstructorParameters<typeof Origins>[0];

afterEach(() => void vi.restoreAllMocks());

const proxies = new TrustedProxies();
proxies.add('10.0.0.1');

/** True if a handshake with these headers passes. */
const passes = (origins: Origins, headers: Headers, peer = '192.0.2.1'): boolean =>
  origins.judge(peer, (name) => headers[name] ?? '') === undefined;
const silently = (): { readonly texts: () => string[] } => {
  const spy = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined);
  return { texts: () => spy.mock.calls.map(([warning]) => String(warning)) };
};

const COOKIE = { cookie: 'session=1' };

describe('without allowedOrigins', () => {
  const pass = (headers: Headers): boolean => passes(new Origins(undefined, undefined), headers);

  it('a handshake with credentials of a browser needs an origin of the same host', () => {
    silently();
    for (const credentials of [
      COOKIE,
      { authorization: 'Basic YTpi' },
      { authorization: 'basic YTpi' },
      { authorization: 'Digest username="a"' },
      { authorization: 'Negotiate YII=' },
      { authorization: 'NTLM TlRM' },
    ]) {
      const at = (origin: string, host: string): boolean => pass({ ...credentials, origin, host });
      for (const [origin, host] of [
        ['https://a.example', 'a.example'],
        ['http://a.example', 'a.example'],
        ['HTTPS://A.Example', 'a.EXAMPLE'],
        ['https://a.example', 'a.example:443'],
        ['https://a.example:443', 'a.example'],
        ['http://a.example', 'a.example:80'],
        ['https://a.example:8443', 'a.example:8443'],
        ['https://a.example.', 'a.example.'],
        ['http://127.0.0.1:3000', '127.0.0.1:3000'],
        ['http://[::1]:3000', '[::1]:3000'],
        ['http://[::1]', '[::1]'],
        ['https://xn--mller-kva.example', 'xn--mller-kva.example'],
      ] as const)
        expect(at(origin, host), `${origin} at ${host}`).toBe(true);
      for (const [origin, host] of [
        ['https://evil.example', 'a.example'],
        ['null', 'a.example'],
        ['https://a.example', ''],
        ['https://a.example', 'a.example:8443'],
        ['https://a.example:8443', 'a.example'],
        ['https://a.example', 'a.example:80'],
        ['http://a.example', 'a.example:443'],
        ['https://a.example.', 'a.example'],
        ['https://a.example', 'a.example.'],
        ['https://a.example.evil.example', 'a.example'],
        ['https://evil-a.example', 'a.example'],
        ['https://a.example@evil.example', 'a.example'],
        ['https://evil.example@a.example', 'a.example'],
        ['https://a.example/', 'a.example'],
        ['https://a.example/x', 'a.example'],
        ['https://a.example?', 'a.example'],
        ['https://a.example#', 'a.example'],
        ['https://a.example, https://a.example', 'a.example'],
        ['https://a.example,https://evil.example', 'a.example'],
        ['https://evil.example, https://a.example', 'a.example'],
        [' https://a.example', 'a.example'],
        ['//a.example', 'a.example'],
        ['a.example', 'a.example'],
        ['https:a.example', 'a.example'],
        ['https:\\\\a.example', 'a.example'],
        ['https://a.example:65536', 'a.example:65536'],
        ['https://a.example:x', 'a.example:x'],
        ['https://a.example, ', 'a.example'],
        ['chrome-extension://a.example', 'a.example'],
        ['file://', ''],
        ['https://', ''],
        ['http://[::1', '[::1'],
        ['http://[::1]x', '[::1]x'],
        ['http://::1', '::1'],
        ['http://[1:2]', '[1:2]'],
        ['http://127.1', '127.1'],
        ['http://0x7f.0.0.1', '0x7f.0.0.1'],
        ['https://a.example', 'a.example, a.example'],
        ['https://a.example', 'u@a.example'],
        ['https://müller.example', 'müller.example'],
      ] as const)
        expect(at(origin, host), `${origin} at ${host}`).toBe(false);
    }
  });

  it('all others pass', () => {
    const { texts } = silently();
    for (const headers of [
      {},
      { host: 'a.example' },
      { host: 'a.example', origin: 'https://evil.example' },
      { host: 'a.example', origin: 'null', authorization: 'Bearer abc' },
      { host: 'a.example', origin: 'nonsense', authorization: 'Basically' },
      // Browsers always send an origin: this is a server or an app with a session.
      { host: 'a.example', ...COOKIE },
      { host: 'a.example', ...COOKIE, origin: '' },
      { host: 'a.example', authorization: 'Basic YTpi' },
    ])
      expect(pass(headers), JSON.stringify(headers)).toBe(true);
    expect(texts()).toEqual([]);
  });

  it('the host is that of the first proxy, if it is trusted', () => {
    silently();
    const origins = new Origins(undefined, proxies);
    const at = (forwarded: string, peer: string): boolean =>
      passes(
        origins,
        {
          ...COOKIE,
          origin: 'https://a.example',
          host: '127.0.0.1:3000',
          'x-forwarded-host': forwarded,
        },
        peer,
      );
    for (const forwarded of ['a.example', ' A.example:443 ', 'a.example, inner', ', a.example'])
      expect(at(forwarded, '10.0.0.1'), forwarded).toBe(true);
    for (const forwarded of ['', ' , ', 'b.example', 'inner, a.example'])
      expect(at(forwarded, '10.0.0.1'), forwarded).toBe(false);
    expect(at('a.example', '192.0.2.1')).toBe(false);
    expect(
      passes(origins, { ...COOKIE, origin: 'https://a.example', host: 'a.example' }, '10.0.0.1'),
    ).toBe(true);
  });
});

describe('allowedOrigins', () => {
  const pass = (allowed: Allowed, origin: string, host = 'a.example'): boolean =>
    passes(new Origins(allowed, undefined), { origin, host });

  it('lists origins, with or without credentials', () => {
    silently();
    const list = [
      'https://A.example:443',
      'http://b.example:8080',
      'https://*.c.example',
      'https://*.d.example:8443',
      'capacitor://localhost',
    ];
    for (const origin of [
      'https://a.example',
      'https://a.example:443',
      'HTTPS://A.EXAMPLE',
      'http://b.example:8080',
      'https://x.c.example',
      'https://x.y.c.example:443',
      'https://x.d.example:8443',
      'capacitor://localhost',
    ])
      expect(pass(list, origin), origin).toBe(true);
    for (const origin of [
      'http://a.example',
      'https://a.example:8443',
      'https://a.example.',
      'https://x.a.example',
      'http://b.example',
      'https://c.example',
      'https://.c.example',
      'https://xc.example',
      'http://x.c.example',
      'https://x.c.example:8443',
      'https://x.c.example.evil.example',
      'https://evil.example/x.c.example',
      'https://x.d.example',
      'https://a.example, https://a.example',
      'null',
      'capacitor://localhost.evil.example',
    ])
      expect(pass(list, origin), origin).toBe(false);
    const origins = new Origins(list, undefined);
    expect(passes(origins, { ...COOKIE, host: 'a.example' })).toBe(true);
    expect(origins.isStrict).toBe(true);
  });

  it('names the same host for all handshakes', () => {
    silently();
    expect(pass('same-host', 'https://a.example')).toBe(true);
    expect(pass('same-host', 'https://b.example')).toBe(false);
    expect(pass(['same-host', 'https://b.example'], 'https://b.example')).toBe(true);
    expect(pass([], 'https://a.example')).toBe(false);
  });

  it('is a function, of which only true allows and nothing ends the server', async () => {
    const { texts } = silently();
    const asked: unknown[] = [];
    const given = (answer: unknown): Allowed =>
      ((...args: unknown[]) => (asked.push(args), answer)) as never;
    expect(pass(given(true), 'null')).toBe(true);
    expect(passes(new Origins(given(false), undefined), { ...COOKIE, host: 'h' })).toBe(true);
    expect(asked).toEqual([['null', 'a.example']]);
    for (const answer of [false, undefined, 1, 'yes', Promise.resolve(true)])
      expect(pass(given(answer), 'https://a.example')).toBe(false);
    const failing = new Origins(() => {
      throw new Error('a secret');
    }, undefined);
    const rejecting = new Origins(given(Promise.reject(new Error('a secret'))), undefined);
    for (const origins of [failing, rejecting])
      expect(passes(origins, { origin: 'https://a.example' })).toBe(false);
    await new Promise((resolve) => setImmediate(resolve));
    // The two that fail, and the promise, which nobody waits for.
    expect(texts().filter((text) => text.includes('allowedOrigins failed'))).toHaveLength(3);
    expect(texts().join()).not.toContain('secret');
  });

  it.each([
    [5, 'ERR_INVALID_ARG_TYPE', 'allowedOrigins'],
    [null, 'ERR_INVALID_ARG_TYPE', 'allowedOrigins'],
    [{}, 'ERR_INVALID_ARG_TYPE', 'allowedOrigins'],
    [[/a/], 'ERR_INVALID_ARG_TYPE', 'allowedOrigins[0]'],
    ['*', 'ERR_OUT_OF_RANGE', 'allowedOrigins'],
    [['https://a.example', 'a.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[1]'],
    [['https://a.example/'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://u@a.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://*'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://*.'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://a.*.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://*.*.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['*://a.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://*.0.0.1'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://*.[::1]'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['https://müller.example'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [['null'], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
    [[''], 'ERR_OUT_OF_RANGE', 'allowedOrigins[0]'],
  ])('%j is refused with %s by name', isRefused);
  it('of more than 1,000 origins is refused by name', () => {
    isRefused(
      Array.from({ length: 1001 }, () => 'same-host'),
      'ERR_OUT_OF_RANGE',
      'allowedOrigins',
    );
    expect(
      pass(
        Array.from({ length: 1000 }, () => 'same-host'),
        'https://a.example',
      ),
    ).toBe(true);
  });

  function isRefused(allowedOrigins: unknown, code: string, field: string): void {
    let error: unknown;
    try {
      portcullis({ limits: {}, allowedOrigins } as never);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PortcullisError);
    expect(error).toMatchObject({ code, field });
  }
});

describe('a refusal', () => {
  it('is warned about once for an origin, with the line that allows it', () => {
    const { texts } = silently();
    const origins = new Origins(undefined, undefined);
    const judge = (origin: string, host = 'a.example'): unknown =>
      origins.judge('', (name) => ({ ...COOKIE, origin, host })[name] ?? '');
    expect(judge('https://B.example:443')).toMatchObject({ code: 'origin_not_allowed' });
    judge('https://b.example');
    expect(texts()).toEqual([
      "refused a handshake from the origin 'https://b.example'. To allow it, set allowedOrigins: ['same-host', 'https://b.example']",
    ]);
    for (let i = 0; i < 100; i++) judge(`https://b${i}.example`);
    expect(texts()).toHaveLength(8);
  });

  it('names the setting of the proxy where Host is a loopback address', () => {
    const { texts } = silently();
    for (const host of ['127.0.0.1:3000', 'localhost', '[::1]:80', 'app.localhost:3000'])
      passes(new Origins(undefined, undefined), { ...COOKIE, origin: 'https://a.example', host });
    expect(texts()).toHaveLength(4);
    for (const text of texts()) {
      expect(text).toContain('proxy_set_header Host $host;');
      expect(text).toContain('trustedProxies');
      expect(text).toContain("allowedOrigins: ['same-host', 'https://a.example']");
    }
    // A page of this machine is no sign of a proxy, and a list does not look at the host.
    const local = { origin: 'http://localhost:5173', host: 'localhost:3000' };
    passes(new Origins(undefined, undefined), { ...COOKIE, ...local });
    passes(new Origins([], undefined), { origin: 'https://a.example', host: 'localhost' });
    expect(texts().slice(4).join()).not.toContain('proxy');
    expect(texts().at(-1)).toContain("add 'https://a.example' to allowedOrigins");
  });

  it('shows nothing of a header that is no origin', () => {
    const { texts } = silently();
    const origins = new Origins([], undefined);
    for (const origin of ['a secret', 'https://user:secret@a.example', 'https://a.example/secret'])
      expect(passes(origins, { origin })).toBe(false);
    expect(passes(origins, { origin: 'null' })).toBe(false);
    expect(texts()).toHaveLength(2);
    expect(texts().join()).not.toContain('secret');
  });
});

/** The same numbers each time: a failure can be run again. */
function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}
const ROUNDS = inFull(5000, 50_000);
const SCHEMES = ['http', 'https', 'HTTPS', 'ws', 'ftp', 'app', ''];
const PIECES = [
  'a.example',
  'A.Example',
  'a.example',
  'b.',
  '.',
  '..',
  '-',
  '_',
  'localhost',
  '127.0.0.1',
  '127.1',
  '0x7f.1',
  '1.2.3.400',
  '[::1]',
  '[0:0:0:0:0:0:0:1]',
  '[::ffff:1.2.3.4]',
  '[::g]',
  '[:::]',
  '[1:2]',
  '[',
  ']',
  'u@',
  'u:p@',
  ':443',
  ':80',
  ':0443',
  ':8443',
  ':65535',
  ':65536',
  ':',
  '/',
  '?',
  '#',
  '\\',
  ' ',
  '\t',
  ', ',
  '%41',
  'é',
  'ﬁ',
];

describe.each([1, 2, 3, 4])(
  'the judgement of a host agrees with the URL standard (seed %i)',
  (seed) => {
    const random = randomOf(seed);
    const pick = <T>(from: readonly T[]): T => from[random(from.length)]!;
    const authority = (): string =>
      Array.from({ length: 1 + random(3) }, () => pick(PIECES)).join('');
    /** The URL of an authority; `undefined` if there is more or less than one. */
    const urlOf = (scheme: string, text: string): URL | undefined => {
      if (!/^https?$/i.test(scheme) || text === '' || /[/?#@\\\s%,]/.test(text)) return undefined;
      try {
        return new URL(`${scheme}://${text}`);
      } catch {
        return undefined;
      }
    };
    /** The name of the host as it is written. */
    const written = (text: string): string => text.toLowerCase().replace(/:\d*$/, '');

    it('for text of all kinds', () => {
      let equal = 0;
      for (let i = 0; i < ROUNDS; i++) {
        const scheme = pick(SCHEMES);
        const page = authority();
        const host = pick([page, authority(), page.replace(/:\d*$/, ''), `${page}:443`]);
        const text = `${scheme}://${page}`;
        const [asked, given] = [urlOf(scheme, page), urlOf(scheme, host)];
        const expected = asked !== undefined && given !== undefined && asked.host === given.host;
        const origin = originOf(text);
        const isSame = origin !== undefined && isSameHost(origin, host);
        // Never more than the standard allows, and all of it where both are written as browsers write them.
        const isCanonical =
          expected && asked.hostname === written(page) && given.hostname === written(host);
        expect([text, host, isSame]).toEqual([text, host, isSame && expected]);
        if (isCanonical) expect([text, host, isSame]).toEqual([text, host, true]);
        if (isSame) equal++;
      }
      expect(equal).toBeGreaterThan(ROUNDS / 50);
    });
  },
);
