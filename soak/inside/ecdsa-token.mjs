// A token with an ECDSA signature: its verification takes long enough to be interrupted.
import { generateKeyPairSync, sign } from 'node:crypto';

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Returns a token that is valid for ten hours, and the public key that verifies it. */
export function ecdsaToken() {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const exp = Math.floor(Date.now() / 1000) + 36_000;
  const signed = `${base64url({ alg: 'ES256', typ: 'JWT' })}.${base64url({ sub: 'ann', exp })}`;
  const signature = sign('sha256', Buffer.from(signed), {
    key: privateKey,
    dsaEncoding: 'ieee-p1363',
  });
  return {
    token: `${signed}.${signature.toString('base64url')}`,
    pem: publicKey.export({ type: 'spki', format: 'pem' }),
  };
}
