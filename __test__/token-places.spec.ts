import { describe, expect, it } from 'vitest';
import { findToken, hideTokens, withoutTokens } from '../dist/guard/bearer-places.js';
import { HttpTokens } from '../dist/guard/http-tokens.js';

const TOKEN = 'aa.bb.cc';
const inProtocols = (offered: string, subprotocol: string | readonly string[] = 'bearer') => {
  const header = (name: string): string => (name === 'sec-websocket-protocol' ? offered : '');
  return [findToken({ subprotocol }, header, '/').token, withoutTokens(offered, subprotocol)];
};

describe('a token', () => {
  it('is found in a subprotocol, and never answered', () => {
    const packed = Buffer.from(TOKEN).toString('base64url');
    const k8s = 'base64url.bearer.authorization.k8s.io';
    const rows: readonly (readonly [string, readonly (string | undefined)[], string?])[] = [
      [`bearer, ${TOKEN}`, [TOKEN, 'bearer']],
      [`bearer,${TOKEN}`, [TOKEN, 'bearer']],
      [`graphql-transport-ws, bearer, ${TOKEN}`, [TOKEN, 'graphql-transport-ws']],
      [`bearer, ${TOKEN}, graphql-transport-ws`, [TOKEN, 'graphql-transport-ws']],
      [`app, bearer.${TOKEN}`, [TOKEN, 'app']],
      [`bearer.${TOKEN}, app, other`, [TOKEN, 'app']],
      [`bearer.${TOKEN}`, [TOKEN, 'bearer']],
      [`${k8s}.${packed}, v4.channel.k8s.io`, [TOKEN, 'v4.channel.k8s.io'], k8s],
      [`${k8s}.${TOKEN}, v4.channel.k8s.io`, [TOKEN, 'v4.channel.k8s.io'], k8s],
      // A second token is not answered either.
      [`bearer.${TOKEN}, bearer.x.y.z`, [TOKEN, 'bearer']],
      // Nor is a token that is named and stands once more by itself.
      [`bearer, ${TOKEN}, ${TOKEN}`, [TOKEN, 'bearer']],
      [`${TOKEN}, bearer, ${TOKEN}, app`, [TOKEN, 'app']],
      [`bearer.${TOKEN}, ${TOKEN}`, [TOKEN, 'bearer']],
      [`${k8s}.${packed}, ${TOKEN}, v4.channel.k8s.io`, [TOKEN, 'v4.channel.k8s.io'], k8s],
      [`app, bearer`, [undefined, 'app']],
      [`bearers, ${TOKEN}`, [undefined, undefined]],
      [`app, ${TOKEN}`, [undefined, undefined]],
      ['', [undefined, undefined]],
    ];
    for (const [offered, expected, name] of rows)
      expect(inProtocols(offered, name), offered).toEqual(expected);
    const both = ['bearer', 'jwt'];
    expect(inProtocols(`app, jwt, ${TOKEN}`, both)).toEqual([TOKEN, 'app']);
    // A token of another name is not answered either, wherever it stands.
    expect(inProtocols(`bearer, ${TOKEN}, jwt, x.y.z`, both)).toEqual([TOKEN, 'bearer']);
    expect(inProtocols(`bearer.${TOKEN}, jwt, x.y.z, app`, both)).toEqual([TOKEN, 'app']);
  });

  it('is taken out of the request, which its host then answers', () => {
    const offer = `app, bearer.${TOKEN}`;
    const of = (request: unknown): void =>
      hideTokens({ subprotocol: 'bearer' }, () => offer, request);
    const fetched = { headers: new Headers({ 'sec-websocket-protocol': offer }) };
    of(fetched);
    expect(fetched.headers.get('sec-websocket-protocol')).toBe('app');
    const ofNode = { headers: { 'sec-websocket-protocol': offer } };
    of(ofNode);
    expect(ofNode.headers['sec-websocket-protocol']).toBe('app');
    for (const nothing of [undefined, null, {}, { headers: Object.freeze({}) }])
      expect(() => of(nothing)).not.toThrow();
  });

  it('is found in a cookie of exactly that name, if it has one value', () => {
    const inCookie = (cookie: string): string | undefined =>
      findToken({ cookie: 'session' }, (name) => (name === 'cookie' ? cookie : ''), '/').token;
    expect(inCookie(`a=b; session=${TOKEN}; c=d`)).toBe(TOKEN);
    expect(inCookie(`session="${TOKEN}"`)).toBe(TOKEN);
    expect(inCookie(`session=${TOKEN};session=${TOKEN}`)).toBe(TOKEN);
    expect(inCookie(`session=${TOKEN}; session=x.y.z`)).toBeUndefined();
    expect(inCookie(`xsession=${TOKEN}; Session=${TOKEN}; session`)).toBeUndefined();
  });

  it('of the header comes first, and no place is read that is not named', () => {
    const headers: Record<string, string> = {
      authorization: 'bearer h',
      cookie: 'session=c',
      'sec-websocket-protocol': 'bearer, s',
    };
    const header = (name: string): string => headers[name] ?? '';
    const all = { cookie: 'session', subprotocol: 'bearer', queryParameter: 't' };
    const found = (places: object): unknown => {
      const { token, place } = findToken(places, header, '/?t=q');
      return [token, place];
    };
    expect(found(all)).toEqual(['h', 'header']);
    headers['authorization'] = 'Basic x';
    expect(found(all)).toEqual(['c', 'cookie']);
    delete headers['cookie'];
    expect(found(all)).toEqual(['s', 'subprotocol']);
    delete headers['sec-websocket-protocol'];
    expect(found(all)).toEqual(['q', 'query']);
    expect(found({})).toEqual([undefined, undefined]);
  });
});

describe('a token for a request', () => {
  it('of a path is needed however the path is spelled', () => {
    const none = (): string => '';
    const preflight = (name: string): string =>
      ['origin', 'access-control-request-method'].includes(name) ? 'x' : '';
    const tokens = new HttpTokens(['/api/*', '/me']);
    for (const url of [
      '/api/users',
      '/api/',
      '/api',
      '/API/users',
      '//api/users',
      '/x/../api/users',
      '/%61pi/users',
      '/%2561pi/users',
      '/api%2fusers',
      '/./api/users',
      '\\api\\users',
      '/api;v=1/users',
      '/me',
      '/me/',
      '/me?x=1',
      'http://localhost/api/users',
      'http://a/api/users',
      '/%zz',
      '/public/%ff',
    ])
      expect(tokens.needs('GET', url, none), url).toBe(true);
    for (const url of [
      '/',
      '/public',
      '/apis',
      '/men',
      '/x/api/users',
      '/?/api/users',
      '/public#/me',
    ])
      expect(tokens.needs('GET', url, none), url).toBe(false);
    expect(tokens.needs('OPTIONS', '/api/users', preflight)).toBe(false);
    expect(tokens.needs('OPTIONS', '/api/users', none)).toBe(true);
    expect(new HttpTokens(true).needs('GET', '/', none)).toBe(true);
    for (const nothing of [undefined, false, []])
      expect(new HttpTokens(nothing).isEmpty).toBe(true);
  });

  it('has paths that can be compared', () => {
    for (const option of ['/api', 5, ['api'], ['/a*b'], ['/a?b'], ['/%61'], [5]])
      expect(() => new HttpTokens(option)).toThrow();
  });
});
