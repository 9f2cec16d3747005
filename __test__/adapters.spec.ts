import { describe, expect, it } from 'vitest';
import { ConnectionManager, PortcullisError, TimerManager, TokenVerifier } from '../dist/index.js';
import { portcullis } from '../dist/ws.js';

function thrown(call: () => unknown): Partial<PortcullisError> {
  try {
    call();
  } catch (error) {
    if (error instanceof PortcullisError)
      return { code: error.code, field: error.field, value: error.value, message: error.message };
  }
  throw new Error('no PortcullisError was thrown');
}

describe('options of an adapter', () => {
  const manager = new ConnectionManager({}, new TimerManager());
  const wrong = (options: object): Partial<PortcullisError> =>
    thrown(() => portcullis(options as Parameters<typeof portcullis>[0]));

  it('are refused by the name of the wrong field', () => {
    expect(wrong({ limits: {}, trustedProxys: [] })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: expect.stringContaining('did you mean trustedProxies?'),
    });
    expect(wrong({})).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE', field: 'limits' });
    expect(wrong({ limits: {}, identify: 1 })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'identify',
    });
    expect(wrong({ limits: {}, refuseWith: 'silence' })).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'refuseWith',
      value: '"silence"',
    });
    expect(wrong({ limits: {}, trustedProxies: '10.0.0.0/8' })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'trustedProxies',
    });
    expect(wrong({ limits: {}, trustedProxies: ['10.0.0.0/8', '10.0.0.0/33'] })).toMatchObject({
      code: 'ERR_OUT_OF_RANGE',
      field: 'trustedProxies[1]',
      value: '"10.0.0.0/33"',
    });
    for (const clientAddress of [5, {}, null])
      expect(wrong({ limits: {}, trustedProxies: ['unix'], clientAddress })).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        field: 'clientAddress',
      });
    for (const clientAddress of ['', 'x real ip', 'x-real-ip:', 'é', 'x'.repeat(129)])
      expect(wrong({ limits: {}, trustedProxies: ['unix'], clientAddress })).toMatchObject({
        code: 'ERR_OUT_OF_RANGE',
        field: 'clientAddress',
      });
    for (const trustedProxies of [undefined, []])
      expect(wrong({ limits: {}, trustedProxies, clientAddress: 'x-real-ip' })).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        field: 'trustedProxies',
        message: expect.stringContaining('clients can write any header'),
      });
    expect(wrong({ limits: {}, auth: {} })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'auth.verifier',
    });
    expect(wrong({ limits: {}, auth: 'secret' })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'auth',
    });
    const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret: 's'.repeat(32) } });
    expect(wrong({ limits: {}, auth: { verifier, queryParam: 'a' } })).toMatchObject({
      code: 'ERR_UNKNOWN_OPTION',
      message: expect.stringContaining('queryParameter'),
    });
    expect(wrong({ limits: {}, auth: { verifier, subprotocol: '' } })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'auth.subprotocol',
    });
    expect(wrong({ limits: {}, auth: verifier, identify: () => undefined })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'identify',
    });
    expect(wrong({ manager, name: 'other' })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'name',
    });
    expect(wrong({ manager: {} })).toMatchObject({
      code: 'ERR_INVALID_ARG_TYPE',
      field: 'manager',
    });
  });

  it('may hold a manager of the application', () => {
    expect(portcullis({ manager }).manager).toBe(manager);
  });
});
