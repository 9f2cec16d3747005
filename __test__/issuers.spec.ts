import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  TimerManager,
  type TokenResult,
  TokenVerifier,
  type TokenVerifierOptions,
} from '../dist/index.js';
import { ManualClock } from '../dist/testing.js';
import { certificateOf, pemOf } from './fixtures/certificate.js';
import { token } from './fixtures/sign.js';
import { until } from './fixtures/until.js';

const codeOf = (result: TokenResult): string => (result.success ? 'accepted' : result.error.code);
const TENANT = '11111111-2222-4333-8444-555555555555';

interface Pair {
  readonly kid: string;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}
const rsaPair = (kid: string): Pair => ({
  kid,
  ...generateKeyPairSync('rsa', { modulusLength: 2048 }),
});
const ecPair = (kid: string): Pair => ({
  kid,
  ...generateKeyPairSync('ec', { namedCurve: 'P-256' }),
});
const [old, next, stranger] = [rsaPair('kid-1'), rsaPair('kid-2'), rsaPair('kid-1')];
const [oldEc, nextEc, strangerEc] = [ecPair('kid-1'), ecPair('kid-2'), ecPair('kid-1')];
const jwk = ({ publicKey, kid }: Pair, more: object): object => ({
  ...publicKey.export({ format: 'jwk' }),
  kid,
  use: 'sig',
  ...more,
});
const x5c = ({ publicKey }: Pair): string[] => [
  certificateOf(publicKey, old.privateKey).toString('base64'),
];
const jwks = (...keys: object[]): object => ({ keys });

/** A provider: its documents by address, the header and the claims of its tokens. */
interface Provider {
  readonly documents: (pairs: readonly Pair[]) => Readonly<Record<string, object>>;
  readonly header?: object;
  readonly claims: Readonly<Record<string, unknown>>;
  readonly wrong: Readonly<Record<string, unknown>>;
  readonly code: string;
  readonly isEc?: boolean;
}
const entraKeys = (pairs: readonly Pair[]): object =>
  jwks(
    ...pairs.map((pair) =>
      jwk(pair, {
        x5t: pair.kid,
        x5c: x5c(pair),
        cloud_instance_name: 'microsoftonline.com',
        issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0',
      }),
    ),
  );
const entraClaims = {
  iss: `https://login.microsoftonline.com/${TENANT}/v2.0`,
  aud: 'api://CLIENT',
  tid: TENANT,
  oid: 'o',
  scp: 'chat.read chat.write',
  ver: '2.0',
  nbf: 0,
};

const PROVIDERS: Readonly<Record<string, Provider>> = {
  Auth0: {
    documents: (pairs) => ({
      'https://TENANT.eu.auth0.com/.well-known/jwks.json': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'RS256', x5t: 'x', x5c: x5c(pair) })),
      ),
    }),
    claims: {
      iss: 'https://TENANT.eu.auth0.com/',
      sub: 'auth0|1',
      aud: ['https://api.example', 'https://TENANT.eu.auth0.com/userinfo'],
      azp: 'c',
      scope: 'openid profile',
      permissions: ['chat:read'],
    },
    wrong: { aud: ['https://other.example'] },
    code: 'ERR_TOKEN_AUDIENCE',
  },
  'Entra, one tenant': {
    documents: (pairs) => ({
      [`https://login.microsoftonline.com/${TENANT}/discovery/v2.0/keys`]: entraKeys(pairs),
    }),
    claims: entraClaims,
    wrong: { iss: 'https://login.microsoftonline.com/99999999-2222-4333-8444-555555555555/v2.0' },
    code: 'ERR_TOKEN_ISSUER',
  },
  'Entra, all tenants': {
    documents: (pairs) => ({
      'https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration': {
        issuer: 'https://login.microsoftonline.com/{tenantid}/v2.0',
        jwks_uri: 'https://login.microsoftonline.com/common/discovery/v2.0/keys',
      },
      'https://login.microsoftonline.com/common/discovery/v2.0/keys': entraKeys(pairs),
    }),
    claims: entraClaims,
    wrong: { tid: '99999999-2222-4333-8444-555555555555' },
    code: 'ERR_TOKEN_ISSUER',
  },
  Cognito: {
    documents: (pairs) => ({
      'https://cognito-idp.eu-west-1.amazonaws.com/POOL/.well-known/jwks.json': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'RS256' })),
      ),
    }),
    header: { typ: undefined },
    claims: {
      iss: 'https://cognito-idp.eu-west-1.amazonaws.com/POOL',
      client_id: 'CLIENT',
      token_use: 'access',
      scope: 'aws.cognito.signin.user.admin',
      'cognito:groups': ['admins'],
      jti: 'j',
    },
    wrong: { client_id: 'OTHER' },
    code: 'ERR_TOKEN_ISSUER',
  },
  Keycloak: {
    documents: (pairs) => ({
      'https://sso.example/realms/REALM/protocol/openid-connect/certs': jwks(
        { ...jwk(stranger, { alg: 'RSA-OAEP', use: 'enc' }), kid: 'enc' },
        ...pairs.map((pair) =>
          jwk(pair, { alg: 'RS256', x5c: x5c(pair), x5t: 'x', 'x5t#S256': 'y' }),
        ),
      ),
    }),
    claims: {
      iss: 'https://sso.example/realms/REALM',
      aud: ['CLIENT', 'account'],
      typ: 'Bearer',
      azp: 'web',
      realm_access: { roles: ['user'] },
      resource_access: { account: { roles: ['view-profile'] } },
      scope: 'profile email',
      jti: 'j',
    },
    wrong: { aud: 'account' },
    code: 'ERR_TOKEN_AUDIENCE',
  },
  'Google (ID tokens)': {
    documents: (pairs) => ({
      'https://www.googleapis.com/oauth2/v3/certs': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'RS256' })),
      ),
    }),
    claims: {
      iss: 'accounts.google.com',
      azp: 'CLIENT.apps.googleusercontent.com',
      aud: 'CLIENT.apps.googleusercontent.com',
      email: 'ann@example.com',
      email_verified: true,
      at_hash: 'x',
    },
    wrong: { iss: 'https://accounts.google.com.evil.example' },
    code: 'ERR_TOKEN_ISSUER',
  },
  Firebase: {
    documents: (pairs) => ({
      'https://www.googleapis.com/robot/v1/metadata/x509/securetoken@system.gserviceaccount.com':
        Object.fromEntries(
          pairs.map(({ kid, publicKey }) => [
            kid,
            pemOf('CERTIFICATE', certificateOf(publicKey, old.privateKey)),
          ]),
        ),
    }),
    claims: {
      iss: 'https://securetoken.google.com/PROJECT',
      aud: 'PROJECT',
      auth_time: 1,
      user_id: 'ann',
      firebase: { identities: {}, sign_in_provider: 'password' },
    },
    wrong: { aud: 'OTHER' },
    code: 'ERR_TOKEN_AUDIENCE',
  },
  Supabase: {
    documents: (pairs) => ({
      'https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'ES256', key_ops: ['verify'], ext: true })),
      ),
    }),
    claims: {
      iss: 'https://PROJECT.supabase.co/auth/v1',
      aud: 'authenticated',
      role: 'authenticated',
      aal: 'aal1',
      session_id: 's',
      is_anonymous: false,
    },
    wrong: { aud: 'anon' },
    code: 'ERR_TOKEN_AUDIENCE',
    isEc: true,
  },
  Okta: {
    documents: (pairs) => ({
      'https://ORG.okta.com/oauth2/default/v1/keys': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'RS256' })),
      ),
    }),
    header: { typ: undefined },
    claims: {
      ver: 1,
      jti: 'AT.1',
      iss: 'https://ORG.okta.com/oauth2/default',
      aud: 'api://default',
      cid: 'c',
      uid: 'u',
      scp: ['openid', 'chat'],
    },
    wrong: { iss: 'https://ORG.okta.com' },
    code: 'ERR_TOKEN_ISSUER',
  },
  Clerk: {
    documents: (pairs) => ({
      'https://NAME.clerk.accounts.dev/.well-known/jwks.json': jwks(
        ...pairs.map((pair) => jwk(pair, { alg: 'RS256' })),
      ),
    }),
    header: { cat: 'cl_B7d4PD111AAA' },
    claims: {
      iss: 'https://NAME.clerk.accounts.dev',
      azp: 'https://app.example',
      sid: 's',
      sts: 'active',
      fva: [0, -1],
      v: 2,
    },
    wrong: { iss: 'https://OTHER.clerk.accounts.dev' },
    code: 'ERR_TOKEN_ISSUER',
  },
};

/** Waits for the end of a fetch under way, which has a timeout. */
const settled = (): Promise<void> =>
  until(() => timers.snapshot().timers.every(({ name }) => name !== 'jwks timeout'));

/** Passes time in steps that are shorter than the timeout of a fetch. */
async function pass(seconds: number): Promise<void> {
  for (let at = 0; at < seconds; at++) {
    clock.advance(1000);
    await settled();
  }
}

/** The rows of the page: options by issuer. */
const rows = readFileSync(new URL('../docs/issuers.md', import.meta.url), 'utf8')
  .split('\n')
  .map((line) => /^\| (.+?)\s*\| `(algorithms: .+)`\s*\|$/.exec(line))
  .filter((row) => row !== null)
  .map(([, name = '', code = '']) => [name, code] as const);

let clock: ManualClock;
let timers: TimerManager;
let server: Server;
let documents: Readonly<Record<string, object>> | undefined;

beforeEach(async () => {
  clock = new ManualClock();
  timers = new TimerManager({ clock });
  server = createServer((request, response) => {
    const asked = decodeURIComponent((request.url ?? '').slice(1));
    const [, document] =
      Object.entries(documents ?? {}).find(([url]) => new URL(url).href === asked) ?? [];
    if (document === undefined) response.writeHead(503).end();
    else response.writeHead(200, { 'cache-control': 'max-age=3600' }).end(JSON.stringify(document));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
});
afterEach(async () => {
  timers.cleanup();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

/** Makes the options of a row; the local server stands in for all addresses. */
function optionsOf(code: string): TokenVerifierOptions {
  // oxlint-disable-next-line no-implied-eval -- the code of the page, as a reader would copy it
  const options = new Function(`return {${code}};`)() as TokenVerifierOptions;
  const local = (url: string, init: object): Promise<Response> =>
    fetch(
      `http://127.0.0.1:${(server.address() as AddressInfo).port}/${encodeURIComponent(url)}`,
      init,
    );
  return { ...options, timers, jwks: { ...options.jwks, fetch: local } as never };
}

it('each row of the page is tried, and each provider has one', () => {
  expect(rows.map(([name]) => name)).toEqual(Object.keys(PROVIDERS));
});

describe('tokens of', () => {
  it.each(rows)(
    '%s are accepted through a rotation and an outage, and others are refused',
    async (name, code) => {
      const provider = PROVIDERS[name]!;
      const [first, second, evil] = provider.isEc
        ? [oldEc, nextEc, strangerEc]
        : [old, next, stranger];
      const algorithm = provider.isEc ? 'ES256' : 'RS256';
      const signed = (pair: Pair, changed: object = {}, head: object = {}): string =>
        token(
          { sub: 'ann', iat: Math.floor(Date.now() / 1000), ...provider.claims, ...changed },
          pair.privateKey,
          algorithm,
          { kid: pair.kid, ...provider.header, ...head },
        );
      documents = provider.documents([first]);
      const verifier = new TokenVerifier(optionsOf(code));
      try {
        const ask = async (text: string): Promise<string> =>
          codeOf(await verifier.authenticate(text));
        expect(await ask(signed(first)), verifier.snapshot().jwks?.lastError).toBe('accepted');
        expect(verifier.snapshot().lenientKeys).toBe(0);
        expect(await ask(signed(first, provider.wrong))).toBe(provider.code);
        expect(await ask(signed(evil))).toBe('ERR_TOKEN_SIGNATURE');
        expect(await ask(signed(first, { exp: 1 }))).toBe('ERR_TOKEN_EXPIRED');
        expect(await ask(signed(first, { iat: Math.floor(Date.now() / 1000) + 3 }))).toBe(
          'accepted',
        );
        // The next key is published, and used at once.
        documents = provider.documents([first, second]);
        clock.advance(30_000);
        expect(await ask(signed(second))).toBe('accepted');
        expect(await ask(signed(first))).toBe('accepted');
        // The issuer is down for an hour.
        documents = undefined;
        for (let minute = 0; minute < 60; minute++) {
          expect(await ask(signed(second))).toBe('accepted');
          await pass(60);
        }
        expect(verifier.snapshot().jwks?.failures).toBeGreaterThan(3);
        // The old key is withdrawn.
        documents = provider.documents([second]);
        await pass(600);
        expect(await ask(signed({ ...second, kid: 'kid-3' }))).toBe('ERR_TOKEN_KEY_UNKNOWN');
        expect(await ask(signed(first))).toBe('ERR_TOKEN_KEY_UNKNOWN');
        expect(await ask(signed(second))).toBe('accepted');
      } finally {
        verifier.close();
      }
    },
  );
});
