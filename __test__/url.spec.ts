import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  InputValidationError,
  InputValidator,
  PortcullisError,
  type UrlOptions,
  isPublicAddress,
  urlSchema,
} from '../dist/index.js';

const VECTORS = '../shared/vectors';
const HAS_VECTORS = existsSync(VECTORS);
const lines = (file: string): string[] =>
  readFileSync(`${VECTORS}/${file}`, 'utf8').split(/\r?\n/).filter(Boolean);
const named = (name: string): string =>
  HAS_VECTORS ? name : `${name}: skipped, the vectors are not there`;

const check = InputValidator.safeValidateUrl;
/** Returns the code of a refusal, or the flags of an accepted URL. */
const outcome = (url: string, options: UrlOptions): string => {
  const result = check(url, options);
  return result.success ? result.value.flags.toSorted().join(' ') : result.error.code;
};

/** Returns whether the parser accepts a URL. `URL.canParse` of Node 20 is wrong once it is compiled. */
function parses(url: string, base: string): boolean {
  try {
    return new URL(url, base).href !== '';
  } catch {
    return false;
  }
}

describe('validateUrl without a mode', () => {
  it('has its documented messages', () => {
    for (const [url, message] of [
      [undefined, 'URL is required'],
      ['', 'URL is required'],
      [null, 'URL is required'],
      [5, 'URL must be a string'],
      [{}, 'URL must be a string'],
      ['x'.repeat(2049), 'URL too long'],
      ['http://[', 'Invalid URL format'],
      ['http://a:b:c', 'Invalid URL format'],
    ] as const) {
      expect(() => InputValidator.validateUrl(url as never)).toThrow(
        new InputValidationError(expectFailure(url)),
      );
      expect(() => InputValidator.validateUrl(url as never)).toThrow(message);
    }
  });

  it('returns the URL as it came', () => {
    for (const url of ['/a/../b?c#d', 'https://EXAMPLE.com', 'x'.repeat(2048), '//host']) {
      expect(InputValidator.validateUrl(url)).toBe(url);
      expect(InputValidator.validateUrl(url, {})).toBe(url);
    }
  });

  it('agrees with the parser once it has run often', () => {
    // `URL.canParse` of Node 20 answers otherwise for these once it is compiled.
    const odd = ['https://\u00c3\u0080.example', '//\u00c3\u0080/x', 'https://é.example', '//é/x'];
    const answers = (): unknown[] =>
      odd.map((url) => [check(url).success, 'issues' in urlSchema()['~standard'].validate(url)]);
    const cold = answers();
    expect(cold.map((one) => (one as unknown[])[0])).toEqual([false, false, true, true]);
    for (let at = 0; at < 100_000; at++) {
      check(`https://a.example/${at & 255}`);
      urlSchema()['~standard'].validate(`https://a.example/${at & 255}`);
    }
    expect(answers()).toEqual(cold);
  });

  it.skipIf(!HAS_VECTORS)(named('agrees with the engine on the web platform tests'), () => {
    const cases = (
      JSON.parse(readFileSync(`${VECTORS}/wpt-url/urltestdata.json`, 'utf8')) as (
        string | { input: string }
      )[]
    ).filter((one) => typeof one === 'object');
    expect(cases.length).toBeGreaterThan(800);
    for (const { input } of cases) {
      if (input === '' || input.length > 2048) continue;
      expect(check(input).success, input).toBe(parses(input, 'http://localhost'));
      const result = check(input, { mode: 'outbound', schemes: ['http', 'https', 'ws', 'wss'] });
      if (!result.success) expect(result.error.code).toMatch(/^ERR_URL_/);
      else expect(result.value.href).toBe(new URL(input).href);
    }
  });
});

function expectFailure(url: unknown): InputValidationError['failure'] {
  const result = check(url);
  if (result.success) throw new Error('accepted');
  return result.error;
}

describe('request-target', () => {
  const mode = { mode: 'request-target' } as const;

  it('accepts paths as they are', () => {
    for (const url of [
      '/',
      '/a/b.c?d=e&f',
      '/a%20b',
      '/~user/;p=1',
      '/.well-known/acme',
      '/search?q=a%26b',
      '/a..b/c...d',
      '/@scope/name',
      '/a?b=c:d',
      '/%E4%BD%A0',
    ])
      expect(check(url, mode), url).toEqual({
        success: true,
        value: {
          href: url,
          origin: '',
          host: '',
          unicodeHost: '',
          path: url.split('?')[0],
          query: url.includes('?') ? `?${url.split('?')[1]}` : '',
          flags: [],
        },
      });
  });

  it.each([
    ['//evil.com', 'ERR_URL_NETWORK_PATH'],
    ['/\\evil.com', 'ERR_URL_BACKSLASH'],
    ['\\\\evil.com', 'ERR_URL_BACKSLASH'],
    ['http:evil.com', 'ERR_URL_FORM'],
    ['javascript:alert(1)', 'ERR_URL_FORM'],
    ['evil.com:443', 'ERR_URL_FORM'],
    ['http://evil.com/', 'ERR_URL_FORM'],
    ['*', 'ERR_URL_FORM'],
    ['/a#b', 'ERR_URL_FRAGMENT'],
    ['/a b', 'ERR_URL_CHARACTER'],
    ['/\tfoo', 'ERR_URL_CHARACTER'],
    ['/x\r\nHost: y', 'ERR_URL_CHARACTER'],
    ['/é', 'ERR_URL_CHARACTER'],
    ['/a%0d%0ab', 'ERR_URL_ENCODED_CONTROL'],
    ['/a?b=%0aSet-Cookie', 'ERR_URL_ENCODED_CONTROL'],
    ['/a%00', 'ERR_URL_ENCODED_CONTROL'],
    ['/a%250d', 'ERR_URL_ENCODED_CONTROL'],
    ['/a%25250a', 'ERR_URL_ENCODED_CONTROL'],
    ['/%E5%98%8A%E5%98%8Dx', 'ERR_URL_ENCODED_CONTROL'],
    ['/a%09b', 'ERR_URL_ENCODED_CONTROL'],
    ['/a/../b', 'ERR_URL_TRAVERSAL'],
    ['/a/./b', 'ERR_URL_TRAVERSAL'],
    ['/..', 'ERR_URL_TRAVERSAL'],
    ['/a/%2e%2e/b', 'ERR_URL_TRAVERSAL'],
    ['/a/..%2fb', 'ERR_URL_TRAVERSAL'],
    ['/a/%252e%252e/b', 'ERR_URL_TRAVERSAL'],
    ['/a/..;x/b', 'ERR_URL_TRAVERSAL'],
    ['/..%c0%afetc', 'ERR_URL_TRAVERSAL'],
    ['/%c0%ae%c0%ae/etc', 'ERR_URL_TRAVERSAL'],
    ['/%e0%80%ae%e0%80%ae/etc', 'ERR_URL_TRAVERSAL'],
    ['/%u002e%u002e/etc', 'ERR_URL_TRAVERSAL'],
    ['/%uff0e%uff0e%u2215etc', 'ERR_URL_TRAVERSAL'],
    ['/%ef%bc%8e%ef%bc%8e/etc', 'ERR_URL_TRAVERSAL'],
    ['/%%32%65%%32%65/etc', 'ERR_URL_TRAVERSAL'],
    ['/..%5c..%5cwindows', 'ERR_URL_TRAVERSAL'],
    ['/a%', 'ERR_URL_PERCENT'],
    ['/a%zz', 'ERR_URL_PERCENT'],
    ['/%c0x', 'ERR_URL_PERCENT'],
    // A backslash: the lead byte has one bit of it.
    ['/..%c1%9cetc', 'ERR_URL_TRAVERSAL'],
    ['/..%e0%81%9cetc', 'ERR_URL_TRAVERSAL'],
    ['/..%f0%80%81%9cetc', 'ERR_URL_TRAVERSAL'],
    // A full-width slash in four bytes, a slash in five and in six.
    ['/..%f0%8f%bc%8fetc', 'ERR_URL_TRAVERSAL'],
    ['/..%f8%80%80%80%afetc', 'ERR_URL_TRAVERSAL'],
    ['/..%fc%80%80%80%80%afetc', 'ERR_URL_TRAVERSAL'],
    ['/%fc%80%80%80%81%81', 'ERR_URL_PERCENT'],
    ['/%c3%28', 'ERR_URL_PERCENT'],
    ['/%80', 'ERR_URL_PERCENT'],
    ['/a%e4%bd', 'ERR_URL_PERCENT'],
    ['/%ed%a0%80', 'ERR_URL_PERCENT'],
    ['/%e4%bd%a0%f0%9f%98%80', ''],
    ['/?b=%c3', 'percent'],
    ['/a%2fb', 'encoded-separator'],
    ['/a%5cb', 'encoded-separator'],
    ['/a?file=../../etc/passwd', 'traversal'],
    ['/a?file=..%2f..%2fetc', 'traversal'],
    ['/a?b=%', 'percent'],
    ['/go?next=//evil.com', 'nested-url'],
    ['/https://evil.com', 'nested-url'],
    ['/100%2525', 'double-encoding'],
  ])('%s: %s', (url, expected) => {
    expect(outcome(url, mode)).toBe(expected);
  });

  it('accepts * for OPTIONS, and an absolute URL that names the host', () => {
    expect(outcome('*', { ...mode, method: 'OPTIONS' })).toBe('');
    expect(outcome('http://Example.com:8080/a', { ...mode, host: 'example.com:8080' })).toBe('');
    expect(outcome('http://example.com:8080/a', { ...mode, host: 'example.com' })).toBe(
      'ERR_URL_HOST',
    );
    expect(outcome('ftp://example.com/a', { ...mode, host: 'example.com' })).toBe('ERR_URL_SCHEME');
  });

  it('flags suspicious paths instead, if the options say so', () => {
    expect(outcome('/a/../b', { ...mode, suspicious: 'flag' })).toBe('traversal');
    expect(outcome('/a%zz', { ...mode, suspicious: 'flag' })).toBe('percent');
    expect(outcome('/a%0d', { ...mode, suspicious: 'flag' })).toBe('ERR_URL_ENCODED_CONTROL');
  });
});

describe('redirect', () => {
  const options = {
    mode: 'redirect',
    allowedOrigins: ['https://example.com', 'http://localhost:8080'],
  } as const;
  it.each([
    ['/home?x=1#y', ''],
    ['https://example.com/a#b', ''],
    ['https://EXAMPLE.com./a', ''],
    ['http://localhost:8080', ''],
    ['https://example.com:444/', 'ERR_URL_HOST'],
    ['http://example.com/', 'ERR_URL_HOST'],
    ['https://example.com.evil.com/', 'ERR_URL_HOST'],
    ['https://evil.com?@example.com/', 'ERR_URL_HOST'],
    ['https://example.com@evil.com/', 'ERR_URL_CREDENTIALS'],
    ['//evil.com', 'ERR_URL_NETWORK_PATH'],
    ['/%2f%2fevil.com', 'ERR_URL_NETWORK_PATH'],
    ['/%5cevil.com', 'ERR_URL_NETWORK_PATH'],
    ['/%09/evil.com', 'ERR_URL_ENCODED_CONTROL'],
    ['https:example.com', 'ERR_URL_FORM'],
    ['https:///example.com', 'ERR_URL_FORM'],
    ['home', 'ERR_URL_FORM'],
    ['?a', 'ERR_URL_FORM'],
    ['javascript:alert(1)', 'ERR_URL_SCHEME'],
    ['data:text/html,x', 'ERR_URL_SCHEME'],
    ['https://example.com\\@evil.com', 'ERR_URL_BACKSLASH'],
    ['https://exa%6dple.com/', 'ERR_URL_PERCENT'],
    ['/\u3031google.com', 'ERR_URL_CHARACTER'],
  ])('%s: %s', (url, expected) => {
    expect(outcome(url, options)).toBe(expected);
  });
});

describe('outbound', () => {
  const options = { mode: 'outbound', schemes: ['https', 'http', 'wss'] } as const;
  it.each([
    ['https://example.com/hook?a=b', ''],
    ['https://example.com.:443/', ''],
    ['wss://example.com/', ''],
    ['https://[2606:4700::1111]/', ''],
    ['https://1.1.1.1/', ''],
    ['https://xn--bcher-kva.example.com/', 'international'],
    ['https://xn--pple-43d.com/', 'international mixed-scripts'],
    ['ftp://example.com/', 'ERR_URL_SCHEME'],
    ['file:///etc/passwd', 'ERR_URL_SCHEME'],
    ['gopher://127.0.0.1/', 'ERR_URL_SCHEME'],
    ['/path', 'ERR_URL_FORM'],
    ['//example.com/', 'ERR_URL_FORM'],
    ['https:/example.com/', 'ERR_URL_FORM'],
    ['https://user@example.com/', 'ERR_URL_CREDENTIALS'],
    ['https://example.com:8443/', 'ERR_URL_PORT'],
    ['https://example.com/#x', 'ERR_URL_FRAGMENT'],
    ['http://0x7f.1/', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://127.1/', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://0/', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://2130706433/', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://017700000001/', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://8.8.8.8./', 'ERR_URL_ADDRESS_NOTATION'],
    ['http://127.0.0.1/', 'ERR_URL_ADDRESS'],
    ['http://169.254.169.254/latest/meta-data/', 'ERR_URL_ADDRESS'],
    ['http://10.0.0.1/', 'ERR_URL_ADDRESS'],
    ['http://[::1]/', 'ERR_URL_ADDRESS'],
    ['http://[::ffff:8.8.8.8]/', 'ERR_URL_ADDRESS'],
    ['http://[64:ff9b::808:808]/', 'ERR_URL_ADDRESS'],
    ['http://[fe80::1%25eth0]/', 'ERR_URL_FORMAT'],
    ['http://localhost/', 'ERR_URL_ADDRESS'],
    ['http://LOCALHOST./', 'ERR_URL_ADDRESS'],
    ['http://a.localhost/', 'ERR_URL_ADDRESS'],
    ['http://intranet/', 'ERR_URL_ADDRESS'],
    ['http://metadata.google.internal/', 'ERR_URL_ADDRESS'],
    ['http://127.0.0.1.nip.io/', 'ERR_URL_ADDRESS'],
    ['https://kubernetes.default/api', 'ERR_URL_ADDRESS'],
    ['http://localhost../', 'ERR_URL_ADDRESS'],
    ['http://metadata.google.internal../', 'ERR_URL_ADDRESS'],
    ['https://billing.prod.svc/', 'ERR_URL_ADDRESS'],
    ['https://vault.service.consul/', 'ERR_URL_ADDRESS'],
    ['http://app.10-0-0-1.example.com/', 'ERR_URL_ADDRESS'],
    ['http://metadata.tencentyun.com/latest/meta-data/', 'ERR_URL_ADDRESS'],
    ['http://169.254.0.23/latest/meta-data/', 'ERR_URL_ADDRESS'],
    ['http://192.0.0.192/latest/', 'ERR_URL_ADDRESS'],
    ['http://[fd00:c1::a9fe:a9fe]/opc/v2/instance/', 'ERR_URL_ADDRESS'],
    ['http://metadata.oraclecloud.com/opc/v2/instance/', 'ERR_URL_ADDRESS'],
    ['http://100.100.100.200/latest/meta-data/', 'ERR_URL_ADDRESS'],
    ['http://metadata.digitalocean.com/metadata/v1.json', 'ERR_URL_ADDRESS'],
    ['http://metadata.hetzner.cloud/hetzner/v1/metadata', 'ERR_URL_ADDRESS'],
    ['http://hidden.onion/', 'ERR_URL_ADDRESS'],
    ['http://a.test/', 'ERR_URL_ADDRESS'],
    ['http://a.invalid/', 'ERR_URL_ADDRESS'],
    ['http://a.example/', 'ERR_URL_ADDRESS'],
    ['http://a.alt/', 'ERR_URL_ADDRESS'],
    ['http://router.home.arpa/', 'ERR_URL_ADDRESS'],
    ['http://1.0.0.10.in-addr.arpa/', 'ERR_URL_ADDRESS'],
    ['http://8.b.d.0.1.0.0.2.ip6.arpa/', 'ERR_URL_ADDRESS'],
    ['https://example.com/', ''],
    ['https://latest.example.org/', ''],
    ['https://ec2-54-1-2-3.compute.example.com/', ''],
  ])('%s: %s', (url, expected) => {
    expect(outcome(url, options)).toBe(expected);
  });

  it('allows https only, and other schemes, ports and hosts by option', () => {
    expect(outcome('http://example.com/', { mode: 'outbound' })).toBe('ERR_URL_SCHEME');
    expect(outcome('https://example.com:8443/', { mode: 'outbound', allowedPorts: [8443] })).toBe(
      '',
    );
    for (const port of [0, -1, 65_536, 443.5, Number.NaN, Infinity]) {
      expect(
        () => outcome('https://example.com/', { mode: 'outbound', allowedPorts: [443, port] }),
        String(port),
      ).toThrow(
        expect.objectContaining({
          code: 'ERR_OUT_OF_RANGE',
          field: 'allowedPorts',
          allowed: 'a whole number from 1 to 65535',
        }),
      );
    }
    expect(outcome('https://10.0.0.5/', { mode: 'outbound', allowedHosts: ['10.0.0.5'] })).toBe('');
    expect(
      outcome('https://example.com/', { mode: 'outbound', allowedHosts: ['api.example.com'] }),
    ).toBe('ERR_URL_HOST');
    expect(InputValidator.validateUrl('https://EXAMPLE.com', { mode: 'outbound' })).toBe(
      'https://example.com/',
    );
  });
});

describe('entries and options that can never match', () => {
  const thrown = (options: UrlOptions): unknown => {
    try {
      return check('/', options).success && 'accepted';
    } catch (error) {
      return error instanceof PortcullisError ? [error.code, error.field] : error;
    }
  };

  it('are refused in allowedHosts', () => {
    for (const host of [
      '',
      'https://example.com',
      'example.com:443',
      'example.com/path',
      '*.example.com',
      'user@example.com',
      'b\u00fccher.example',
      '0x7f.1',
      '[::0001]',
      'a b',
    ])
      expect([host, thrown({ mode: 'outbound', allowedHosts: ['a.com', host] })]).toEqual([
        host,
        ['ERR_OUT_OF_RANGE', 'allowedHosts'],
      ]);
    for (const [host, url] of [
      ['Example.COM', 'https://example.com/'],
      ['example.com.', 'https://example.com/'],
      ['a_b.example', 'https://a_b.example/'],
      ['[::1]', 'https://[::1]/'],
      ['::1', 'https://[0:0::1]/'],
    ] as const)
      expect([host, outcome(url, { mode: 'outbound', allowedHosts: [host] })]).toEqual([host, '']);
  });

  it('are refused in allowedOrigins', () => {
    for (const origin of [
      'https://example.com/path',
      'https://example.com/?a',
      'https://*.example.com',
      'https://user@example.com',
      'ftp://example.com',
      'ws://example.com',
      '*',
    ])
      expect([origin, thrown({ mode: 'redirect', allowedOrigins: [origin] })]).toEqual([
        origin,
        ['ERR_OUT_OF_RANGE', 'allowedOrigins'],
      ]);
    for (const origin of ['https://example.com', 'https://example.com/', 'https://EXAMPLE.com:443'])
      expect(outcome('https://example.com/a', { mode: 'redirect', allowedOrigins: [origin] })).toBe(
        '',
      );
  });

  it('are refused where the mode ignores them', () => {
    const options = {
      method: 'GET',
      host: 'example.com',
      allowedOrigins: ['https://example.com'],
      schemes: ['https'],
      allowedPorts: [443],
      allowedHosts: ['example.com'],
    };
    const read = { 'request-target': 2, redirect: 1, outbound: 3, none: 0 };
    for (const [mode, count] of Object.entries(read)) {
      const given = mode === 'none' ? {} : { mode: mode as 'redirect' };
      const accepted = Object.entries(options).filter(([name, value]) => {
        const result = thrown({ ...given, [name]: value });
        if (Array.isArray(result)) expect(result).toEqual(['ERR_INVALID_ARG_TYPE', name]);
        return !Array.isArray(result);
      });
      expect([mode, accepted.length]).toEqual([mode, count]);
    }
  });

  it('the engine reads no host otherwise than it is written', () => {
    // Node and Bun have parsers of their own: a host that is accepted names the same server on both.
    const pieces = [
      'a',
      '-',
      '_',
      '.',
      'xn--',
      'xn--zca',
      '0x7f',
      '1',
      '~',
      '!',
      "'",
      '(',
      '[',
      ']',
      ':',
      'XN--A',
    ];
    let seed = 7;
    const random = (below: number): number => {
      seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31;
      return seed % below;
    };
    for (let round = 0; round < 4000; round++) {
      const host = Array.from({ length: 1 + random(6) }, () => pieces[random(pieces.length)]).join(
        '',
      );
      const result = check(`https://${host}/`, { mode: 'outbound' });
      if (!result.success || host.startsWith('[')) continue;
      const written = host.toLowerCase().replace(/:\d*$/, '').replace(/\.$/, '');
      expect(result.value.host, host).toBe(written);
    }
  });
});

describe('the attack lists', () => {
  it.skipIf(!HAS_VECTORS)(named('are refused or flagged in the mode that they aim at'), () => {
    for (const [file, mode] of [
      ['payloads/open_redirect_payloads.txt', 'redirect'],
      ['payloads/open_redirect_params.txt', 'redirect'],
      ['payloads/crlf_injection.txt', 'redirect'],
      ['payloads/crlf_injection.txt', 'request-target'],
      ['payloads/directory_traversal.txt', 'request-target'],
    ] as const) {
      const list = lines(file);
      const missed = list.filter((url) => outcome(url, { mode }) === '');
      expect(missed, file).toEqual([]);
    }
  });

  it.skipIf(!HAS_VECTORS)(named('cause few refusals of harmless URLs'), () => {
    const list = lines('benign-urls/kasztp_every9th_5000.txt');
    const parsed = (url: string): URL => new URL(url.replace('\ufeff', ''));
    const refused = (options: (url: string) => UrlOptions, form = (url: string) => url): number =>
      list.filter((url) => !check(form(url), options(url)).success).length;
    expect(refused(() => ({}))).toBe(0);
    // 22 have a backslash in the path, 1 has a byte order mark.
    expect(
      refused((url) => ({ mode: 'redirect', allowedOrigins: [parsed(url).origin] })),
    ).toBeLessThanOrEqual(25);
    const target = (url: string): string => parsed(url).pathname + parsed(url).search;
    expect(refused(() => ({ mode: 'request-target' }), target)).toBeLessThanOrEqual(25);
  });
});

describe('options and hostile input', () => {
  it('names a wrong option', () => {
    const wrong = (options: object): unknown => {
      try {
        return check('/', options);
      } catch (error) {
        return error instanceof PortcullisError ? [error.code, error.field] : error;
      }
    };
    expect(wrong({ mode: 'fetch' })).toEqual(['ERR_OUT_OF_RANGE', 'mode']);
    expect(wrong({ mode: 'redirect', allowedOrigins: 'https://a' })).toEqual([
      'ERR_INVALID_ARG_TYPE',
      'allowedOrigins',
    ]);
    expect(wrong({ mode: 'redirect', allowedOrigins: ['example.com'] })).toEqual([
      'ERR_OUT_OF_RANGE',
      'allowedOrigins',
    ]);
    expect(wrong({ maxlength: 5 })).toEqual(['ERR_UNKNOWN_OPTION', 'maxlength']);
    expect(wrong({ maxLength: 0 })).toEqual(['ERR_OUT_OF_RANGE', 'maxLength']);
    expect(wrong({ suspicious: true })).toEqual(['ERR_OUT_OF_RANGE', 'suspicious']);
  });

  it('refuses allowedOrigins for outbound, which ignores them', () => {
    const options = { mode: 'outbound', allowedOrigins: ['https://example.com'] } as const;
    expect(() => InputValidator.validateUrl('https://other.example/', options)).toThrow(
      'allowedHosts',
    );
  });

  it('checks a hostile URL of the greatest length in little time', { timeout: 20_000 }, () => {
    for (const piece of ['%25', '/..', '=a:', '%2e', 'a.', '1.1.', '%E0%80', '%u00', '/'])
      for (const mode of ['request-target', 'redirect', 'outbound'] as const)
        check(`/${piece.repeat(20_000)}`, { mode, maxLength: 65_536 });
  });

  it('isPublicAddress reads the usual notation only', () => {
    expect(['8.8.8.8', '2606:4700::1111'].map(isPublicAddress)).toEqual([true, true]);
    for (const ip of [
      '',
      '10.0.0.1',
      '0x8.8.8.8',
      '134744072',
      '[2606:4700::1111]',
      '8.8.8.8:53',
      '::ffff:8.8.8.8',
      'x'.repeat(1000),
      5,
      null,
      undefined,
    ])
      expect(isPublicAddress(ip as never), String(ip)).toBe(false);
  });
});
