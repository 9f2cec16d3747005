// Writes THIRD-PARTY-NOTICES.md: the crates linked into the addons of all platforms and the
// packages inlined into the page, each with its licence, and every licence text once. The build
// runs it; every package contains it.
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { cargoMetadata, fail, json, root } from './lib/project.mjs';

/**
 * Crates that are packed without their repository's licence file, and a package of the same
 * repository that has it.
 */
const TEXT_ELSEWHERE = [[/^napi(?:-|$)/, 'node_modules/@napi-rs/cli']];
/**
 * Crates without any licence file; the text of their licence names no holder, so another crate's
 * copy serves.
 */
const STANDARD = [[/^objc2-/, /apache/i]];

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

/** Returns the licence texts in a folder, without carriage returns and trailing spaces. */
function textsIn(folder) {
  return readdirSync(folder)
    .filter((name) => /^(?:licen[cs]e|copying|notice|unlicense)/i.test(name))
    .toSorted()
    .map((name) => ({
      name,
      text: readFileSync(join(folder, name), 'utf8')
        .replaceAll(/[^\S\n]+$|\r/gm, '')
        .replace(/^\n+/, '')
        .trimEnd(),
    }));
}

/** Returns a licence as an SPDX expression; older crates write `MIT/Apache-2.0`. */
const expressionOf = (license) =>
  (license ?? fail('a crate names no licence')).replaceAll('/', ' OR ');

const byName = (a, b) =>
  a.name < b.name
    ? -1
    : a.name > b.name
      ? 1
      : a.version.localeCompare(b.version, 'en', { numeric: true });

/** Returns the linked crates of all targets, each once, with the licence texts that they bring. */
function linkedCrates() {
  const { targets } = json(join(root, 'package.json')).napi;
  const crates = new Map(
    targets.flatMap(linkedFor).map((crate) => [`${crate.name} ${crate.version}`, crate]),
  );
  return [...crates.values()].toSorted(byName).map(({ name, version, license, manifest_path }) => {
    const own = textsIn(dirname(manifest_path));
    const elsewhere = TEXT_ELSEWHERE.find(([pattern]) => pattern.test(name))?.[1];
    const texts =
      own.length === 0 && elsewhere !== undefined ? textsIn(join(root, elsewhere)) : own;
    return { name, version, license: expressionOf(license), texts };
  });
}

/**
 * Adds the standard text of their licence to the crates without a text; fails where there is none.
 */
function addStandardTexts(crates) {
  const all = crates.flatMap(({ texts }) => texts);
  for (const crate of crates.filter(({ texts }) => texts.length === 0)) {
    const file = STANDARD.find(([pattern]) => pattern.test(crate.name))?.[1];
    const text = all.find(({ name }) => file?.test(name));
    if (text === undefined)
      fail(
        `scripts/notices.mjs: ${crate.name} ${crate.version} (${crate.license}) has no licence text; say there where it is.`,
      );
    crate.texts = [text];
  }
}

/**
 * Returns Rust's standard library. Its texts are those of serde, which belongs to the same project
 * and names no holder.
 */
function standardLibrary(crates) {
  const { texts } =
    crates.find(({ name }) => name === 'serde_core') ??
    fail('the texts of the Rust project are missing');
  return { name: "Rust's standard library", version: '', license: 'MIT OR Apache-2.0', texts };
}

/** Returns a development package whose text is inlined into this one. */
function inlined(name, path) {
  const folder = join(root, 'node_modules', path);
  if (!existsSync(folder)) fail('the development packages are missing: run "npm ci" first.');
  const { version, license } = json(join(folder, 'package.json'));
  return { name, version, license, texts: textsIn(folder) };
}

/** Licence texts, numbered; two texts that differ only in their line breaks are one. */
class Texts {
  #numbers = new Map();
  #list = [];

  numberOf({ text }) {
    const words = text.replaceAll(/\s+/g, ' ');
    if (!this.#numbers.has(words)) this.#numbers.set(words, this.#list.push(text));
    return this.#numbers.get(words);
  }

  /** Renders all texts, between fences that are longer than any run of backticks in them. */
  rendered() {
    const runs = this.#list.flatMap((text) => [...text.matchAll(/`+/g)].map(([run]) => run.length));
    const fence = '`'.repeat(Math.max(3, ...runs.map((length) => length + 1)));
    return this.#list.map((text, at) => `### Text ${at + 1}\n\n${fence}text\n${text}\n${fence}\n`);
  }
}

/** Renders the table of a group, and numbers its texts. */
function tableOf(title, parts, texts) {
  const rows = parts.map(({ name, version, license, texts: own }) => {
    const numbers = [...new Set(own.map((text) => texts.numberOf(text)))];
    const links = numbers.map((number) => `[${number}](#text-${number})`);
    return `| ${name} | ${version} | ${license} | ${links.join(', ')} |`;
  });
  return `## ${title}\n\n| | version | licence | texts |\n| --- | --- | --- | --- |\n${rows.join('\n')}\n`;
}

const crates = linkedCrates();
addStandardTexts(crates);
const texts = new Texts();
const tables = [
  tableOf(
    'Linked into the native addon, on some platform or all',
    [standardLibrary(crates), ...crates],
    texts,
  ),
  tableOf('Inlined into the live page', [inlined('uPlot', 'uplot')], texts),
  tableOf(
    'Inlined into the type declarations',
    [inlined('@standard-schema/spec', '@standard-schema/spec')],
    texts,
  ),
];
const head =
  '# Third-party notices\n\nGenerated by `scripts/notices.mjs` from the crates of `Cargo.lock`, uPlot and `@standard-schema/spec`. Do not edit.\n';
writeFileSync(
  join(root, 'THIRD-PARTY-NOTICES.md'),
  [head, ...tables, '## Texts\n', ...texts.rendered()].join('\n'),
);
