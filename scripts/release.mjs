// A release, step by step; `.github/workflows/release.yml` runs all of them.
//   check    refuses what cannot be released, saying why
//   prepare  puts binaries from artifacts/ into npm/ and names their packages in package.json
//   publish  publishes the packages of npm/, then portcullis itself; with --dry-run nothing is sent
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { execute, json, root as home } from './lib/project.mjs';

/** Written by scripts/notices.mjs. */
export const NOTICES = 'THIRD-PARTY-NOTICES.md';

/** What stands in the way of a release, a sentence each. `tag` is the git tag to release, if there is one; `isPrepared` once `prepare` has run. */
export function obstacles(root, tag, isPrepared = false) {
  const found = [];
  const { name, version, repository, optionalDependencies } = json(join(root, 'package.json'));
  if (typeof repository?.url !== 'string') {
    found.push(
      'package.json has no "repository": set { "type": "git", "url": "git+https://…" } to where the project lives; npm checks the provenance of a package against it.',
    );
  }
  if (optionalDependencies !== undefined && !isPrepared)
    found.push(
      'package.json names optionalDependencies: they are added at release only, as `npm ci` fails while they are unpublished.',
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
    found.push(`CHANGELOG.md has no section "## ${version}": say what is new.`);
  }
  if (tag !== undefined && tag !== `v${version}`)
    found.push(`the tag is ${tag} and the version of ${name} ${version}: tag it v${version}.`);
  return found;
}

/** The folders of npm/, one for each platform. */
function platforms(root) {
  return readdirSync(join(root, 'npm'), { withFileTypes: true }).flatMap((entry) =>
    entry.isDirectory() ? [entry.name] : [],
  );
}

/** What others wrote of a binary is told where the binary is. */
function addNotices(root, folder) {
  copyFileSync(join(root, NOTICES), join(folder, NOTICES));
  const path = join(folder, 'package.json');
  const manifest = json(path);
  writeFileSync(
    path,
    `${JSON.stringify({ ...manifest, files: [...new Set([...manifest.files, NOTICES])] }, null, 2)}\n`,
  );
}

/** Binaries from `artifacts/` into npm/, their packages into package.json; fails where one is missing. */
export function prepare(root) {
  const napi = (...args) =>
    execute(join(root, 'node_modules', '.bin', 'napi'), args, { cwd: root });
  // Again: the fields of package.json that they share may have changed.
  napi('create-npm-dirs');
  platforms(root).forEach((folder) => addNotices(root, join(root, 'npm', folder)));
  napi('artifacts', '--output-dir', 'artifacts', '--npm-dir', 'npm');
  const naming = ['--tag-style', 'npm', '--npm-dir', 'npm'];
  napi('pre-publish', ...naming, '--skip-optional-publish', '--no-gh-release');
}

/** Whether a version is on the registry already, so that a release that broke off can be run again. */
function isPublished({ name, version }) {
  return (
    spawnSync('npm', ['view', `${name}@${version}`, 'version'], {
      encoding: 'utf8',
    }).stdout?.trim() === version
  );
}

function publish(root, isDry) {
  const provenance = isDry ? ['--dry-run', '--provenance=false'] : ['--provenance'];
  // portcullis itself comes last: whoever sees it can install what it names.
  for (const folder of [...platforms(root).map((name) => join('npm', name)), '.']) {
    const manifest = json(join(root, folder, 'package.json'));
    if (!isDry && isPublished(manifest))
      console.log(`${manifest.name}@${manifest.version} is published already`);
    else
      execute('npm', ['publish', '--access', 'public', ...provenance], { cwd: join(root, folder) });
  }
}

/** Why package.json is not fit to be published as it is; `prepublishOnly` asks. */
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

/** Says each sentence; whether there is none. */
function isClear(sentences) {
  for (const sentence of sentences) console.error(`portcullis: ${sentence}`);
  return sentences.length === 0;
}

const tag = () => (process.env.GITHUB_REF_TYPE === 'tag' ? process.env.GITHUB_REF_NAME : undefined);

// By its whole text: a slip in an option must not publish.
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
