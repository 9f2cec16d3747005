// Runs one step of a release; `.github/workflows/release.yml` runs them all.
//   check    names the obstacles to a release
//   fit      names the reason why package.json cannot be published; `prepublishOnly` runs it
//   prepare  moves binaries from artifacts/ into npm/ and adds their packages to package.json
//   publish  publishes the packages of npm/, then portcullis itself; --dry-run sends nothing
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execute, json, root as home } from './lib/project.mjs';

/** The file that scripts/notices.mjs writes. */
export const NOTICES = 'THIRD-PARTY-NOTICES.md';

/**
 * Returns the obstacles to a release, a sentence each.
 * @param tag the git tag to release, if there is one
 * @param isPrepared true after `prepare`
 */
export function obstacles(root, tag, isPrepared = false) {
  const found = [];
  const { name, version, repository, optionalDependencies } = json(join(root, 'package.json'));
  if (typeof repository?.url !== 'string') {
    found.push(
      'package.json has no "repository": set { "type": "git", "url": "git+https://…" } to the address of the repository; npm checks the provenance of a package against it.',
    );
  }
  if (optionalDependencies !== undefined && !isPrepared)
    found.push(
      'package.json names optionalDependencies: only a release adds them, because `npm ci` fails while they are unpublished.',
    );
  const crate = /^version = "(.+)"$/m.exec(readFileSync(join(root, 'Cargo.toml'), 'utf8'))?.[1];
  if (crate !== version)
    found.push(`Cargo.toml says version ${crate} and package.json ${version}: set both alike.`);
  for (const folder of platforms(root)) {
    const own = json(join(root, 'npm', folder, 'package.json')).version;
    if (own !== version)
      found.push(
        `npm/${folder} says version ${own} and package.json ${version}: run "npx napi create-npm-dirs".`,
      );
  }
  if (
    !new RegExp(`^## ${version.replaceAll('.', '\\.')}\\b`, 'm').test(
      readFileSync(join(root, 'CHANGELOG.md'), 'utf8'),
    )
  ) {
    found.push(`CHANGELOG.md has no section "## ${version}": describe the changes.`);
  }
  if (tag !== undefined && tag !== `v${version}`)
    found.push(`the tag is ${tag} and the version of ${name} ${version}: tag it v${version}.`);
  return found;
}

/** Returns the folders of npm/, one for each platform. */
function platforms(root) {
  return readdirSync(join(root, 'npm'), { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [entry.name] : [],
  );
}

/** Adds the third-party notices to the package of a binary. */
function addNotices(root, folder) {
  copyFileSync(join(root, NOTICES), join(folder, NOTICES));
  const path = join(folder, 'package.json');
  const manifest = json(path);
  writeFileSync(
    path,
    `${JSON.stringify({ ...manifest, files: [...new Set([...manifest.files, NOTICES])] }, null, 2)}\n`,
  );
}

/**
 * Moves binaries from `artifacts/` into npm/ and adds their packages to package.json; throws if one
 * is missing.
 */
export function prepare(root) {
  const napi = (...args) =>
    execute(join(root, 'node_modules', '.bin', 'napi'), args, { cwd: root });
  // The packages of npm/ copy fields of package.json, which may have changed since.
  napi('create-npm-dirs');
  platforms(root).forEach((folder) => addNotices(root, join(root, 'npm', folder)));
  napi('artifacts', '--output-dir', 'artifacts', '--npm-dir', 'npm');
  const naming = ['--tag-style', 'npm', '--npm-dir', 'npm'];
  napi('pre-publish', ...naming, '--skip-optional-publish', '--no-gh-release');
}

/** Returns true if a version is published: an interrupted release can be run again. */
function isPublished({ name, version }) {
  return (
    spawnSync('npm', ['view', `${name}@${version}`, 'version'], {
      encoding: 'utf8',
    }).stdout?.trim() === version
  );
}

function publish(root, isDry) {
  const provenance = isDry ? ['--dry-run', '--provenance=false'] : ['--provenance'];
  // portcullis comes last: its dependencies must exist when users can install it.
  for (const folder of [...platforms(root).map((name) => join('npm', name)), '.']) {
    const manifest = json(join(root, folder, 'package.json'));
    if (!isDry && isPublished(manifest))
      console.log(`${manifest.name}@${manifest.version} is published already`);
    else
      execute('npm', ['publish', '--access', 'public', ...provenance], { cwd: join(root, folder) });
  }
}

/** Returns the reason why package.json cannot be published as it is, or `undefined`. */
export function unfit(root) {
  const { optionalDependencies = {}, version, napi } = json(join(root, 'package.json'));
  const missing = platforms(root).filter(
    (folder) => optionalDependencies[`${napi.packageName}-${folder}`] !== version,
  );
  if (missing.length > 0)
    return `package.json does not name the binaries for ${missing.join(', ')}: releases are made by .github/workflows/release.yml, not by hand.`;
  if (!existsSync(join(root, 'dist', 'index.js'))) return 'dist/ is missing: run "npm run build".';
  return undefined;
}

/** Prints each sentence; returns true if there is none. */
function isClear(sentences) {
  for (const sentence of sentences) console.error(`portcullis: ${sentence}`);
  return sentences.length === 0;
}

const tag = () => (process.env.GITHUB_REF_TYPE === 'tag' ? process.env.GITHUB_REF_NAME : undefined);

// Looked up by the whole command line: a mistyped option must not publish.
const STEPS = {
  check: () => isClear(obstacles(home, tag())),
  fit: () => isClear([unfit(home)].filter((reason) => reason !== undefined)),
  prepare: () => {
    prepare(home);
    return true;
  },
  publish: () => {
    if (
      !isClear(
        [...obstacles(home, tag(), true), unfit(home)].filter((reason) => reason !== undefined),
      )
    )
      return false;
    publish(home, false);
    return true;
  },
  'publish --dry-run': () => {
    publish(home, true);
    return true;
  },
};

function main(args) {
  const step = Object.hasOwn(STEPS, args.join(' ')) ? STEPS[args.join(' ')] : undefined;
  if (step === undefined)
    return isClear([`node scripts/release.mjs ${Object.keys(STEPS).join(' | ')}`]);
  try {
    return step();
  } catch (error) {
    return isClear([error.message]);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  process.exitCode = main(process.argv.slice(2)) ? 0 : 1;
