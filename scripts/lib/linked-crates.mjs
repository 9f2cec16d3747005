// The crates that are linked into the addons.
import { join } from 'node:path';
import { cargoMetadata, fail, json, root } from './project.mjs';

/**
 * Returns the crates that are linked for a target: dependencies, without those of the build and
 * without macros.
 */
function linkedFor(target) {
  const { packages, resolve } = cargoMetadata('--filter-platform', target);
  const byId = new Map(packages.map((one) => [one.id, one]));
  const nodes = new Map(resolve.nodes.map((node) => [node.id, node]));
  const isMacro = (id) => byId.get(id).targets.some(({ kind }) => kind.includes('proc-macro'));
  const found = new Set();
  const left = [resolve.root];
  for (let id = left.pop(); id !== undefined; id = left.pop()) {
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
      if (found.has(pkg) || isMacro(pkg) || !kinds.some(({ kind }) => kind === null)) continue;
      found.add(pkg);
      left.push(pkg);
    }
  }
  return [...found].map((id) => byId.get(id));
}

/** Returns a licence as an SPDX expression; older crates write `MIT/Apache-2.0`. */
export const expressionOf = (license) =>
  (license ?? fail('a crate names no licence')).replaceAll('/', ' OR ');

const byName = (a, b) =>
  a.name < b.name
    ? -1
    : a.name > b.name
      ? 1
      : a.version.localeCompare(b.version, 'en', { numeric: true });

/** Returns the linked crates of all targets, each once, as `cargo metadata` describes them. */
export function linkedCrates() {
  const { targets } = json(join(root, 'package.json')).napi;
  const crates = new Map(
    targets.flatMap(linkedFor).map((crate) => [`${crate.name} ${crate.version}`, crate]),
  );
  return [...crates.values()].toSorted(byName);
}
