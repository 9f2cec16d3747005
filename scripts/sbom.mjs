// Prints the bill of materials of a release in CycloneDX 1.6: the crates that are linked into the
// addons of all platforms, with the checksums of Cargo.lock, and the packages that are inlined.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expressionOf, linkedCrates } from './lib/linked-crates.mjs';
import { json, root } from './lib/project.mjs';

/** Packages whose text is inlined into the live page and into the type declarations. */
const INLINED = ['uplot', '@standard-schema/spec'];

/** Returns the checksums of Cargo.lock, by name and version. */
function checksums() {
  const lock = readFileSync(join(root, 'Cargo.lock'), 'utf8');
  const entry = /^name = "(.+)"\nversion = "(.+)"\nsource = .+\nchecksum = "(.+)"$/gm;
  return new Map(
    [...lock.matchAll(entry)].map(([, name, version, sum]) => [`${name} ${version}`, sum]),
  );
}

const component = (type, name, version, license) => ({
  type: 'library',
  'bom-ref': `pkg:${type}/${name.replace('@', '%40')}@${version}`,
  name,
  version,
  purl: `pkg:${type}/${name.replace('@', '%40')}@${version}`,
  licenses: [{ expression: license }],
});

/** Returns the bill of materials. It names no time and no machine: the same tree gives the same bill. */
export function bill() {
  const { name, version, license } = json(join(root, 'package.json'));
  const sums = checksums();
  const crates = linkedCrates().map((crate) => ({
    ...component('cargo', crate.name, crate.version, expressionOf(crate.license)),
    hashes: [{ alg: 'SHA-256', content: sums.get(`${crate.name} ${crate.version}`) }],
  }));
  const inlined = INLINED.map((path) => {
    const manifest = json(join(root, 'node_modules', path, 'package.json'));
    return component('npm', manifest.name, manifest.version, manifest.license);
  });
  const all = [...crates, ...inlined];
  const subject = component('npm', name, version, license);
  return {
    bomFormat: 'CycloneDX',
    specVersion: '1.6',
    version: 1,
    metadata: { component: subject },
    components: all,
    dependencies: [{ ref: subject['bom-ref'], dependsOn: all.map((one) => one['bom-ref']) }],
  };
}

if (import.meta.url === pathToFileURL(process.argv[1]).href)
  console.log(JSON.stringify(bill(), null, 2));
