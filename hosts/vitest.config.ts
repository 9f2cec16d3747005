import { defineConfig } from 'vitest/config';
import { HOSTS } from './hosts.mjs';

/** Hosts to try, by name: `npm run hosts` names them. */
const wanted = JSON.parse(process.env['HOSTS'] ?? 'null') as readonly string[] | null;

const specOf = (name: string): string =>
  (HOSTS as unknown as Readonly<Record<string, { readonly spec?: string }>>)[name]?.spec ??
  'contract.spec.ts';

export default defineConfig({
  test: {
    root: '.',
    pool: 'forks',
    maxWorkers: 3,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    projects: (wanted ?? Object.keys(HOSTS)).map((name) => ({
      extends: true,
      test: {
        name,
        include: [`hosts/${specOf(name)}`],
        env: { PORTCULLIS_HOST: name },
      },
    })),
  },
});
