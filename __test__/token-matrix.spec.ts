import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type TokenKey, TokenVerifier } from '../dist/index.js';
import { claimRows } from './fixtures/matrix/claim-rows.js';
import { formRows } from './fixtures/matrix/form-rows.js';
import { headerRows } from './fixtures/matrix/header-rows.js';
import { type Reason, REASONS, type Why } from './fixtures/matrix/reasons.js';
import {
  AUDIENCE,
  ISSUER,
  KEYS,
  LIBRARIES,
  type Library,
  type MatrixAlgorithm,
  NOW,
  type Row,
} from './fixtures/matrix/row.js';
import { othersFor } from './fixtures/other-verifiers.js';

const rows: readonly Row[] = [...headerRows, ...claimRows, ...formRows];
const reasonOf = (why: Why): Reason => REASONS[why];

/** Our verifier for an algorithm, and the others. */
function verifiersFor(alg: MatrixAlgorithm) {
  const { verify, isSecret } = KEYS[alg];
  const keys = (isSecret ? { secret: verify } : verify) as TokenKey;
  const options = { issuer: ISSUER, audience: AUDIENCE };
  return {
    ours: new TokenVerifier({ algorithms: [alg], keys, ...options }),
    others: othersFor(alg),
  };
}
const verifiers = new Map(
  (Object.keys(KEYS) as MatrixAlgorithm[]).map((alg) => [alg, verifiersFor(alg)]),
);
// A slow machine must not change what is three seconds away.
beforeAll(() => void vi.useFakeTimers({ toFake: ['Date'], now: NOW * 1000 }));
afterAll(() => {
  vi.useRealTimers();
  for (const { ours } of verifiers.values()) ours.close();
});

/** Returns those of the other verifiers that accept a token. */
async function acceptedBy({ alg, token }: Row): Promise<Library[]> {
  const { others } = verifiers.get(alg)!;
  const verdicts = await Promise.all(
    LIBRARIES.map(async (name) => {
      try {
        await others[name](token);
        return [name];
      } catch {
        return [];
      }
    }),
  );
  return verdicts.flat();
}

describe(`the verdicts on ${rows.length} tokens`, () => {
  it('are of 150 tokens at least, each with a name of its own', () => {
    expect(rows.length).toBeGreaterThanOrEqual(150);
    expect(new Set(rows.map(({ name }) => name)).size).toBe(rows.length);
    expect(new Set(rows.map(({ why }) => why))).toEqual(
      new Set([undefined, ...Object.keys(REASONS)]),
    );
  });

  it('differ on no forged signature and on no token without one', () => {
    const forged = rows.filter(
      ({ name, ours }) => ours === 'ERR_TOKEN_SIGNATURE' || /^alg n|as the secret/i.test(name),
    );
    expect(forged.length).toBeGreaterThan(40);
    expect(forged.filter(({ why }) => why !== undefined)).toEqual([]);
  });

  it('are the listed ones of ours, by every method', async () => {
    for (const { name, token, ours, alg } of rows) {
      const verifier = verifiers.get(alg)!.ours;
      const result = verifier.safeVerify(token);
      const code = result.success ? 'accepted' : result.error.code;
      expect([name, code, verifier.check(token) ?? 'accepted']).toEqual([name, ours, ours]);
      const [batched] = await verifier.verifyBatch([token]);
      expect([name, batched]).toEqual([name, result]);
      expect([name, verifier.explain(token).success]).toEqual([name, result.success]);
    }
  });

  it('are those of jose, fast-jwt, jsonwebtoken and hono/jwt, but for the listed differences', async () => {
    for (const row of rows) {
      const differ = row.why === undefined ? [] : reasonOf(row.why).differ;
      const expected = LIBRARIES.filter(
        (name) => (row.ours === 'accepted') !== differ.includes(name),
      );
      expect([row.name, await acceptedBy(row)]).toEqual([row.name, expected]);
    }
  });
});

it('docs/comparison.md lists the differences', () => {
  const page = readFileSync('docs/comparison.md', 'utf8');
  const [, text = ''] = page.split('## Tokens that others judge differently\n');
  const table = text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .map((line) => line.replaceAll(/ +/g, ' ').replaceAll(/-+/g, '-').trim());
  const line = (...cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
  const expected = [
    line('tokens', 'here', 'the opposite', 'reason'),
    line('-', '-', '-', '-'),
    ...(Object.keys(REASONS) as Why[]).map((why) => {
      const own = rows.filter((row) => row.why === why);
      const codes = [...new Set(own.map(({ ours }) => (ours === 'accepted' ? ours : 'refused')))];
      const { differ, text: reason } = reasonOf(why);
      return line(
        own.map(({ name }) => name.replaceAll('_', '\\_')).join('; '),
        codes.join(),
        differ.length === LIBRARIES.length ? 'all four' : differ.join(', '),
        reason,
      );
    }),
  ];
  expect(table, `the table should be\n${expected.join('\n')}\n`).toEqual(expected);
  const same = rows.filter(({ why }) => why === undefined).length;
  expect(text).toContain(`On ${same} of ${rows.length} tokens all five agree`);
  for (const name of LIBRARIES.map((library) => library.split('/')[0]!)) {
    const { version } = JSON.parse(readFileSync(`node_modules/${name}/package.json`, 'utf8')) as {
      version: string;
    };
    expect(page).toContain(`${name} ${version}`);
  }
});
