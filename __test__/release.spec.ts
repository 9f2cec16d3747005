import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import { obstacles } from '../scripts/release.mjs';
import { bill } from '../scripts/sbom.mjs';

const workflow = (name: string): string => readFileSync(`.github/workflows/${name}.yml`, 'utf8');
const targets = manifest.napi.targets.toSorted();

describe('a release', () => {
  test('builds a binary for every platform, and tries each', () => {
    const build = workflow('build');
    const [addon = '', tried = ''] = build.split('\n  try:');
    const named = (text: string): string[] =>
      [
        ...new Set([...text.matchAll(/target: ([\w-]+)/g)].map((match) => match[1] ?? '')),
      ].toSorted();
    expect(named(addon)).toEqual(targets);
    expect(named(tried)).toEqual(targets.filter((target) => !target.endsWith('-musl')));
    for (const target of targets.filter((name) => name.endsWith('-musl')))
      expect(tried).toContain(`arch: ${target.split('-')[0]}`);
  });

  test('has a package of its version for every platform, without a binary in the repository', () => {
    const folders = readdirSync('npm', { withFileTypes: true }).flatMap((entry) =>
      entry.isDirectory() ? [entry.name] : [],
    );
    expect(folders.length).toBe(targets.length);
    for (const folder of folders) {
      const { name, version, main } = JSON.parse(
        readFileSync(`npm/${folder}/package.json`, 'utf8'),
      ) as typeof manifest;
      expect([name, version, main]).toEqual([
        `${manifest.napi.packageName}-${folder}`,
        manifest.version,
        `portcullis.${folder}.node`,
      ]);
    }
    const tracked = spawnSync('git', ['ls-files', '*.node'], { encoding: 'utf8' });
    if (tracked.status === 0) expect(tracked.stdout).toBe('');
  });

  test('names the linked crates of the binaries with their versions, and no machine or registry', () => {
    const notices = readFileSync('THIRD-PARTY-NOTICES.md', 'utf8');
    const locked = new Set(
      [...readFileSync('Cargo.lock', 'utf8').matchAll(/^name = "(.+)"\nversion = "(.+)"$/gm)].map(
        ([, name, version]) => `${name} ${version}`,
      ),
    );
    const named = [
      ...notices.matchAll(
        /^\| ([\w-]+) \| ([\w.+-]+) \| .+ \| (?:\[\d+\]\(#text-\d+\)(?:, )?)+ \|$/gm,
      ),
    ].map(([, name, version]) => `${name} ${version}`);
    expect(named.filter((one) => !locked.has(one) && !one.startsWith('uPlot '))).toEqual([]);
    // Linked on every platform, on one platform, or as C code.
    for (const name of [
      'aws-lc-sys',
      'napi',
      'serde_json',
      'windows-core',
      'objc2-io-kit',
      'uPlot',
    ])
      expect(named.map((one) => one.split(' ')[0])).toContain(name);
    // Crates that only build or test it are not linked.
    for (const name of [
      'cc',
      'cmake',
      'syn',
      'proptest',
      'napi-derive',
      'napi-build',
      'portcullis',
    ])
      expect(named.map((one) => one.split(' ')[0])).not.toContain(name);
    const texts = [...notices.matchAll(/^### Text (\d+)$/gm)].map(([, number]) => Number(number));
    expect(
      new Set([...notices.matchAll(/#text-(\d+)/g)].map(([, number]) => Number(number))),
    ).toEqual(new Set(texts));
    expect(notices).not.toMatch(/\/root\/|\/home\/|\.cargo|registry|crates\.io|npmjs/);
  });

  test('lets one job publish, which needs all others, and pins every action to a commit', () => {
    const release = workflow('release');
    expect(release.match(/id-token: write/g)).toHaveLength(1);
    expect(release.indexOf('id-token: write')).toBeGreaterThan(release.indexOf('\n  publish:'));
    expect(release).toMatch(/publish:\n {4}needs: \[build, audit\]/);
    for (const step of ['npm audit', 'cargo deny', 'scripts/sbom.mjs'])
      expect(release).toContain(step);
    for (const name of ['ci', 'build', 'release']) {
      expect(workflow(name)).toMatch(/^permissions:\n {2}contents: read$/m);
      for (const [, action] of workflow(name).matchAll(/uses: (\S+)/g))
        expect(action).toMatch(/^\.\/\.github\/|^actions\/[\w-]+@[0-9a-f]{40}$/);
    }
  });

  test('pins images and programs that it downloads by their hash', () => {
    const build = workflow('build');
    const digests = [...build.matchAll(/digest: (\w+)/g)].map(([, digest]) => digest);
    expect(digests.length).toBe(build.match(/arch: (?:x86_64|aarch64)\b/g)!.length);
    for (const digest of digests) expect(digest).toMatch(/^[0-9a-f]{64}$/);
    expect(build).toContain('node:${{ matrix.node }}-alpine@sha256:${{ matrix.digest }}');
    expect(build).not.toMatch(/choco|curl|wget/);
    expect(build).toContain('pip install --user --no-deps --require-hashes');
    for (const line of readFileSync('.github/zig.txt', 'utf8').trim().split('\n').slice(1))
      expect(line).toMatch(/^[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}$/);
  });

  test('has a bill of materials with the notices’ crates and the checksums of Cargo.lock', () => {
    const { components } = bill() as {
      components: { name: string; version: string; purl: string; hashes?: { content: string }[] }[];
    };
    const notices = readFileSync('THIRD-PARTY-NOTICES.md', 'utf8');
    for (const { name, version, purl, hashes } of components) {
      expect([name, notices.includes(`| ${name} | ${version} |`) || name === 'uplot']).toEqual([
        name,
        true,
      ]);
      if (purl.startsWith('pkg:cargo/'))
        expect([name, hashes?.[0]?.content]).toEqual([
          name,
          expect.stringMatching(/^[0-9a-f]{64}$/),
        ]);
    }
    expect(components.length).toBeGreaterThan(50);
    expect(JSON.stringify(components)).not.toMatch(/\/root\/|\/home\/|\.cargo/);
  });

  test('lists the obstacles', () => {
    const { status, stderr } = spawnSync(
      process.execPath.includes('bun') ? 'node' : process.execPath,
      ['scripts/release.mjs', 'check'],
      {
        encoding: 'utf8',
        env: { ...process.env, GITHUB_REF_TYPE: 'tag', GITHUB_REF_NAME: 'v9.9.9' },
      },
    );
    expect(status).toBe(1);
    expect(stderr).toContain(`the tag is v9.9.9 and the version of portcullis ${manifest.version}`);
  });

  test('names each mismatch', () => {
    const root = mkdtempSync(join(tmpdir(), 'release-'));
    try {
      const put = (path: string, given: object | string): void => {
        mkdirSync(dirname(join(root, path)), { recursive: true });
        writeFileSync(join(root, path), typeof given === 'string' ? given : JSON.stringify(given));
      };
      const good = {
        name: 'portcullis',
        version: '1.2.3',
        repository: { url: 'git+https://git.example/portcullis.git' },
      };
      put('package.json', good);
      put('Cargo.toml', 'version = "1.2.3"\n');
      put('npm/linux-x64-gnu/package.json', { version: '1.2.3' });
      put('CHANGELOG.md', '## 1.2.3\n');
      expect(obstacles(root, 'v1.2.3')).toEqual([]);
      const only = (...sentence: string[]): void =>
        expect(obstacles(root, 'v1.2.3')).toEqual(
          sentence.map((text) => expect.stringContaining(text)),
        );
      put('npm/linux-x64-gnu/package.json', { version: '1.2.2' });
      only('npm/linux-x64-gnu says version 1.2.2');
      put('npm/linux-x64-gnu/package.json', { version: '1.2.3' });
      put('Cargo.toml', 'version = "1.2.4"\n');
      only('Cargo.toml says version 1.2.4');
      put('Cargo.toml', 'version = "1.2.3"\n');
      put('CHANGELOG.md', '## 1.2.30\n');
      only('CHANGELOG.md has no section "## 1.2.3"');
      put('CHANGELOG.md', '## 1.2.3\n');
      put('package.json', { ...good, optionalDependencies: {} });
      only('package.json names optionalDependencies');
      expect(obstacles(root, 'v1.2.3', true)).toEqual([]);
      put('package.json', { ...good, repository: undefined });
      only('package.json has no "repository"');
    } finally {
      rmSync(root, { recursive: true });
    }
  });

  test.each([
    ['publish'],
    ['publish', '--dryrun'],
    ['publish', '--dry-run=true'],
    ['publish', '--dry-run', '--help'],
    ['check', 'x'],
    ['junk'],
    [],
  ])('publishes nothing for %j', (...args) => {
    const { status, stdout, stderr } = spawnSync('node', ['scripts/release.mjs', ...args], {
      encoding: 'utf8',
    });
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toMatch(/^portcullis: /);
  });

  test('is refused outside of the workflow', () => {
    const { status, stderr } = spawnSync('node', ['scripts/release.mjs', 'fit'], {
      encoding: 'utf8',
    });
    expect(status).toBe(1);
    expect(stderr).toContain('releases are made by .github/workflows/release.yml');
  });

  test('runs no script when it is installed', () => {
    for (const script of ['preinstall', 'install', 'postinstall', 'prepare'])
      expect(manifest.scripts).not.toHaveProperty(script);
    expect(manifest).not.toHaveProperty('optionalDependencies');
  });
});
