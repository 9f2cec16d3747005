// Compares token verification with fast-jwt and jose. Every token is a fresh string.
// Run: npm run bench, or: node bench/tokens.mjs
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSigner, createVerifier } from 'fast-jwt';
import { jwtVerify } from 'jose';
import { TokenVerifier } from '../dist/index.js';
import { compare, compareAsync, host, machine, verdict } from './compare.mjs';

console.log(machine);
const secret = randomBytes(32);
const pair = (type, options) => {
  const { publicKey, privateKey } = generateKeyPairSync(type, {
    ...options,
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  return { publicKey, privateKey };
};
const rsa = pair('rsa', { modulusLength: 2048 });
const ec = pair('ec', { namedCurve: 'P-256' });
const ed = pair('ed25519', {});
const algorithms = {
  HS256: { sign: secret, ours: { secret }, theirs: secret, jose: secret },
  ES256: { sign: ec.privateKey, ours: { pem: ec.publicKey }, theirs: ec.publicKey },
  RS256: { sign: rsa.privateKey, ours: { pem: rsa.publicKey }, theirs: rsa.publicKey },
  EdDSA: { sign: ed.privateKey, ours: { pem: ed.publicKey }, theirs: ed.publicKey },
};
const claims = (serial) => ({
  sub: `user-${serial}`,
  jti: `${serial}-0123456789ab`,
  roles: ['reader', 'writer'],
  scope: 'chat:read chat:write',
});
/** Signs tokens with different claims. */
const tokensOf = (algorithm, count) => {
  const sign = createSigner({ key: algorithms[algorithm].sign, algorithm, expiresIn: 3_600_000 });
  return Array.from({ length: count }, (_, serial) => sign(claims(serial)));
};
const fresh = (tokens) => tokens.map((token) => Buffer.from(token).toString('latin1'));

/** Returns a contestant that measures the nanoseconds of a token. */
const each =
  (tokens, run, rounds = 1) =>
  () => {
    let spent = 0;
    for (let round = 0; round < rounds; round++) {
      const batch = fresh(tokens);
      const start = performance.now();
      for (const token of batch) run(token);
      spent += performance.now() - start;
    }
    return (spent * 1e6) / tokens.length / rounds;
  };
const thrown = (run) => (token) => {
  try {
    run(token);
  } catch {
    return;
  }
  throw new Error('was accepted');
};

const hs = tokensOf('HS256', 2000);
console.log(`HS256 token of ${hs[0].length} bytes`);
const verifier = new TokenVerifier({ algorithms: ['HS256'], keys: { secret } });
const fast = createVerifier({ key: secret, algorithms: ['HS256'] });
compare('HS256, no cache: check', [
  ['fast-jwt', each(hs, fast, 5)],
  ['portcullis check', each(hs, (token) => verifier.check(token), 5)],
]);
compare('HS256, no cache: safeVerify with claims', [
  ['fast-jwt', each(hs, fast, 5)],
  ['portcullis safeVerify', each(hs, (token) => verifier.safeVerify(token), 5)],
]);
await compareAsync(
  'HS256: safeVerify with claims',
  [
    [
      'jose',
      async () => {
        const batch = fresh(hs);
        const start = performance.now();
        for (const token of batch) await jwtVerify(token, secret, { algorithms: ['HS256'] });
        return ((performance.now() - start) * 1e6) / batch.length;
      },
    ],
    ['portcullis safeVerify', each(hs, (token) => verifier.safeVerify(token), 5)],
  ],
  { rounds: 7 },
);

const few = hs.slice(0, 400);
const caching = new TokenVerifier({ algorithms: ['HS256'], keys: { secret }, cacheSize: 1000 });
const fastCaching = createVerifier({ key: secret, algorithms: ['HS256'], cache: true });
compare('HS256, cached, fresh strings', [
  ['fast-jwt, default cache', each(few, fastCaching, 20)],
  ['portcullis safeVerify, cacheSize 1000', each(few, (token) => caching.safeVerify(token), 20)],
]);

for (const algorithm of ['ES256', 'RS256', 'EdDSA']) {
  const tokens = tokensOf(algorithm, 200);
  const { ours, theirs } = algorithms[algorithm];
  const one = new TokenVerifier({ algorithms: [algorithm], keys: ours });
  const [theirNs, ownNs] = compare(algorithm, [
    ['fast-jwt', each(tokens, createVerifier({ key: theirs, algorithms: [algorithm] }))],
    ['portcullis safeVerify', each(tokens, (token) => one.safeVerify(token))],
  ]);
  // On Bun the arithmetic of RS256 and ES256 alone leaves no room for a target (docs/benchmarks.md).
  if (algorithm === 'EdDSA' || host.startsWith('Node'))
    verdict(`${algorithm}, times faster`, theirNs / ownNs, 'x', { least: 1.3 });
}

const changed = (token, at, by) => token.slice(0, at) + by + token.slice(at + 1);
const wrongSignature = hs.map((token) =>
  changed(token, token.length - 10, token.at(-10) === 'A' ? 'B' : 'A'),
);
const malformed = hs.map((token) => token.replaceAll('.', ''));
for (const [name, tokens] of [
  ['bad signature', wrongSignature],
  ['malformed', malformed],
]) {
  compare(`refusal: ${name}`, [
    ['fast-jwt', each(tokens, thrown(fast))],
    ['portcullis safeVerify', each(tokens, (token) => verifier.safeVerify(token), 5)],
  ]);
  compare(`refusal against success: ${name}`, [
    ['portcullis safeVerify, good', each(hs, (token) => verifier.safeVerify(token), 5)],
    ['portcullis safeVerify, refused', each(tokens, (token) => verifier.safeVerify(token), 5)],
  ]);
}

// The cost of verifyBatch for this thread: its CPU time, as the kernel counts it.
const batchSize = 256;
const rs = tokensOf('RS256', batchSize);
const rsVerifier = new TokenVerifier({ algorithms: ['RS256'], keys: { pem: rsa.publicKey } });
const rsFast = createVerifier({ key: rsa.publicKey, algorithms: ['RS256'] });
const ownMicroseconds = () =>
  Number(readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0]) / 1e3;
// Many batches at once: the kernel updates its count only when it switches threads.
const BATCHES = 20;
async function spentPerToken(run) {
  const batches = Array.from({ length: BATCHES }, () => fresh(rs));
  await new Promise((resolve) => setTimeout(resolve, 5));
  const start = ownMicroseconds();
  for (const batch of batches) await run(batch);
  await new Promise((resolve) => setTimeout(resolve, 5));
  return (ownMicroseconds() - start) / batchSize / BATCHES;
}
await compareAsync(
  `a batch of ${batchSize} RS256: CPU time of this thread per token`,
  [
    [
      'fast-jwt, one by one',
      () => spentPerToken((batch) => batch.forEach((token) => rsFast(token))),
    ],
    [
      'portcullis verifyBatch',
      () =>
        spentPerToken(async (batch) => {
          const results = await rsVerifier.verifyBatch(batch);
          if (!results.every((result) => result.success)) throw new Error('refused');
        }),
    ],
  ],
  { rounds: 9, unit: 'us' },
);
process.exit();
