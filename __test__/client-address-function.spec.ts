import { describe, expect, it } from 'vitest';
import { ClientAddress } from '../dist/guard/client-address.js';
import { clientAddress, PortcullisError } from '../dist/index.js';

const PROXIES = ['10.0.0.0/8', '2001:db8:1::/48'];

const CIRCULAR: unknown[] = [];
CIRCULAR.push(CIRCULAR);

describe('clientAddress()', () => {
  it.each([
    ['192.0.2.9', { 'x-forwarded-for': '198.51.100.1' }, '192.0.2.9'],
    ['10.0.0.1', { 'x-forwarded-for': '198.51.100.1' }, '198.51.100.1'],
    ['10.0.0.1', { 'x-forwarded-for': '6.6.6.6, 198.51.100.1, 10.0.0.2' }, '198.51.100.1'],
    ['10.0.0.1', { forwarded: 'for="[2001:db8::1]:80"' }, '2001:db8::1'],
    ['10.0.0.1', { forwarded: 'for=198.51.100.1', 'x-forwarded-for': '198.51.100.2' }, '10.0.0.1'],
    ['10.0.0.1', {}, '10.0.0.1'],
    ['unix', { 'x-forwarded-for': '198.51.100.1' }, 'unix'],
    ['', {}, ''],
  ])('of %s with %j is %s', (peer, headers, address) => {
    expect(clientAddress(peer, headers, PROXIES)).toBe(address);
    expect(clientAddress(peer, new Headers(headers as Record<string, string>), PROXIES)).toBe(
      address,
    );
    const written = Object.entries(headers).map(([name, value]) => [name.toUpperCase(), [value]]);
    expect(clientAddress(peer, Object.fromEntries(written), PROXIES)).toBe(address);
  });

  it('is the judgement of a guard', () => {
    const guard = new ClientAddress<undefined>(undefined, PROXIES);
    const parts = ['10.0.0.1', '10.9.9.9', '198.51.100.7', '2001:db8:1::5', 'unknown', '', '::1'];
    for (const peer of parts)
      for (const first of parts)
        for (const second of parts) {
          const headers = { 'x-forwarded-for': `${first}, ${second}` };
          expect(clientAddress(peer, headers, PROXIES)).toBe(
            guard.of(undefined, peer, (name) => (headers as Record<string, string>)[name] ?? ''),
          );
        }
  });

  it('reads another header, of trusted peers only', () => {
    const headers = { 'CF-Connecting-IP': '198.51.100.1', 'X-Forwarded-For': '6.6.6.6' };
    expect(clientAddress('10.0.0.1', headers, PROXIES, 'CF-Connecting-IP')).toBe('198.51.100.1');
    expect(clientAddress('192.0.2.9', headers, PROXIES, 'cf-connecting-ip')).toBe('192.0.2.9');
    // Two lines of it are no address.
    const twice = { 'cf-connecting-ip': ['198.51.100.1', '198.51.100.2'] };
    expect(clientAddress('10.0.0.1', twice, PROXIES, 'cf-connecting-ip')).toBe('10.0.0.1');
  });

  it('trusts the networks of each call, also after they have changed', () => {
    const proxies = ['10.0.0.0/8'];
    const headers = { 'x-forwarded-for': '198.51.100.1' };
    expect(clientAddress('10.0.0.1', headers, proxies)).toBe('198.51.100.1');
    proxies[0] = '172.16.0.0/12';
    expect(clientAddress('10.0.0.1', headers, proxies)).toBe('10.0.0.1');
    expect(clientAddress('10.0.0.1', headers, [])).toBe('10.0.0.1');
  });

  it.each([
    [[5, {}, []], 'ERR_INVALID_ARG_TYPE', 'peer'],
    [['', null, []], 'ERR_INVALID_ARG_TYPE', 'headers'],
    [['', {}, '10.0.0.0/8'], 'ERR_INVALID_ARG_TYPE', 'trustedProxies'],
    [['', {}, ['10.0.0.0/33']], 'ERR_OUT_OF_RANGE', 'trustedProxies[0]'],
    [['', {}, PROXIES, 5], 'ERR_INVALID_ARG_TYPE', 'header'],
    [['', {}, PROXIES, 'a b'], 'ERR_OUT_OF_RANGE', 'header'],
    [['', {}, [10n]], 'ERR_INVALID_ARG_TYPE', 'trustedProxies[0]'],
    [['', {}, [CIRCULAR]], 'ERR_INVALID_ARG_TYPE', 'trustedProxies[0]'],
    [['10.0.0.1', { get: () => 5 }, PROXIES], 'ERR_INVALID_ARG_TYPE', 'headers'],
    [['10.0.0.1', { 'x-forwarded-for': Symbol('a') }, PROXIES], 'ERR_INVALID_ARG_TYPE', 'headers'],
    [['10.0.0.1', { 'x-forwarded-for': ['a', 5] }, PROXIES], 'ERR_INVALID_ARG_TYPE', 'headers'],
    [['', {}, [], 'x-real-ip'], 'ERR_INVALID_ARG_TYPE', 'trustedProxies'],
  ])('refuses $2 of case %#', (given, code, field) => {
    const call = clientAddress as (...given: unknown[]) => string;
    let error: unknown;
    try {
      call(...given);
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(PortcullisError);
    expect(error).toMatchObject({ code, field, value: expect.any(String) as string });
    expect((error as PortcullisError).allowed).not.toContain('function');
  });
});
