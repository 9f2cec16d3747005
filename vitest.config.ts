import { existsSync } from 'node:fs';
import { relative } from 'node:path';
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

const pathOf = (name: string): string => `__test__/${name}.spec.ts`;

/**
 * Specs that drive processes of their own: servers on every host that each of them names, commands,
 * compilers. The engine that runs the spec changes nothing, so they run once, on Node.
 */
const ONCE = [
  'admission-hosts',
  'architecture',
  'builder',
  'client-address',
  'cluster',
  'cluster-servers',
  'commands',
  'contract',
  'e2e',
  'elysia',
  'examples',
  'handshakes',
  'host',
  'limits',
  'load',
  'no-thread',
  'origin-handshakes',
  'page-browser',
  'page-servers',
  'refusals',
  'release',
  'seats',
  'shutdown-servers',
  'soak',
  'start',
  'types',
].map(pathOf);
/**
 * Specs that look at their process, such as its memory, or that end processes which they talk to: each has one of
 * its own.
 */
const ALONE = [
  'cluster-bans',
  'cluster-events',
  'cluster-logins',
  'cluster-rates',
  'ffi',
  'full-table',
  'health-score',
  'hostile',
  'junk',
  'metrics',
  'open-telemetry',
  'page',
  'page-recorder',
  'pressure',
  'prom-client',
  'resources',
  'shared-memory',
  'trace',
  'what-if',
].map(pathOf);
/** The longest, which begin first: no worker is left alone with one of them at the end. */
const LONGEST = [
  'soak',
  'page-servers',
  'cluster-events',
  'cluster-logins',
  'cluster-rates',
  'cluster-servers',
  'cluster',
  'limits',
  'page-browser',
  'timers-host',
  'resources',
  'contract',
  'handshakes',
  'load',
  'seats',
  'shutdown-servers',
  'builder',
  'client-address',
  'admission-hosts',
].map(pathOf);

const missing = [...ONCE, ...ALONE, ...LONGEST].filter((path) => !existsSync(path));
if (missing.length > 0) throw new Error(`vitest.config.ts names ${missing.join()}, which is gone`);

class LongestFirst extends BaseSequencer {
  override sort(specs: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = LONGEST.indexOf(relative(this.ctx.config.root, moduleId));
      return at < 0 ? LONGEST.length : at;
    };
    return Promise.resolve(specs.toSorted((a, b) => rank(a) - rank(b)));
  }
}

const isBun = 'bun' in process.versions;
/** Specs that take half a minute: on Bun they run in the long form, which `.ci/run` asks for. */
const LONG_ON_BUN = ['cluster-bans', 'cluster-events', 'cluster-logins', 'cluster-rates'].map(
  pathOf,
);
const isShort = isBun && process.env['PORTCULLIS_LONG'] !== '1';
if (isShort) console.log(`left to PORTCULLIS_LONG=1 on Bun: ${LONG_ON_BUN.join()}`);
const left = isShort ? LONG_ON_BUN : [];
/** The library inside an engine, on Node and on Bun. */
const engine = {
  name: 'engine',
  include: ['__test__/**/*.spec.ts'],
  exclude: [...ONCE, ...ALONE],
  // A worker of Node runs one spec after the other: to load the library again for each took a third of the time.
  // On Bun, workers that had started processes lost their parent, or their sockets, now and then.
  isolate: isBun,
};
const alone = { name: 'alone', include: ALONE.filter((path) => !left.includes(path)) };
const servers = { name: 'servers', include: ONCE };

export default defineConfig({
  test: {
    pool: 'forks',
    // Many specs wait more than they compute: six keep two cores busy.
    maxWorkers: 6,
    sequence: { sequencer: LongestFirst },
    // These end what has failed, and decide nothing else: long enough for a busy machine.
    testTimeout: 60_000,
    hookTimeout: 60_000,
    expect: { poll: { timeout: 20_000 } },
    projects: (isBun ? [engine, alone] : [engine, alone, servers]).map((test) => ({
      extends: true,
      test,
    })),
  },
});
