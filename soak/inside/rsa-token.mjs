// A token with an RSA signature: its verification takes long enough to be interrupted.
import { generateKeyPairSync, sign } from 'node:crypto';

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

/** Returns a token that is valid for ten hours, and the public key that verifies it. */
export function rsaToken() {
  const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const exp = Math.floor(Date.now() / 1000) + 36_000;
  const signed = `${base64url({ alg: 'RS256', typ: 'JWT' })}.${base64url({ sub: 'ann', exp })}`;
  const signature = sign('sha256', Buffer.from(signed), privateKey).toString('base64url');
  return {
    token: `${signed}.${signature}`,
    pem: publicKey.export({ type: 'spki', format: 'pem' }),
  };
}
