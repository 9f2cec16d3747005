// Writes THIRD-PARTY-NOTICES.md: what is linked into the addons of all platforms, and what is inlined into the
// page, each with its licence, and every licence text once. The build runs it; it is part of every package.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const json = (path) => JSON.parse(readFileSync(path, 'utf8'));
const fail = (sentence) => {
  console.error(`portcullis: ${sentence}`);
  process.exit(1);
};

/** Crates that are packed without the licence file of their repository, and a package of the same one that has it. */
const TEXT_ELSEWHERE = [[/^napi(?:-|$)/, 'node_modules/@napi-rs/cli']];
/** Crates without one anywhere that name a licence whose text needs no name of its holder. */
const STANDARD = [[/^objc2-/, 'Apache-2.0']];

function metadata(target) {
  const args = ['metadata', '--locked', '--format-version', '1', '--filter-platform', target];
  const { status, stdout, stderr } = spawnSync('cargo', args, {
    cwd: root,
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) fail(`cargo metadata failed: ${stderr}`);
  return JSON.parse(stdout);
}

/** What is linked for a target: the root's dependencies and theirs, without what only builds them and without macros. */
function linkedFor(target) {
  const { packages, resolve } = metadata(target);
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

/** The licence texts that lie in a folder, without what editors do to them. */
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

/** `MIT/Apache-2.0` is how it was written once. */
const expressionOf = (license) =>
  (license ?? fail('a crate names no licence')).replaceAll('/', ' OR ');

const byName = (a, b) =>
  a.name < b.name
    ? -1
    : a.name > b.name
      ? 1
      : a.version.localeCompare(b.version, 'en', { numeric: true });
const crates = new Map(
  json(join(root, 'package.json')).napi.targets.flatMap((target) =>
    linkedFor(target).map((one) => [
      `${one.name} ${one.version}`,
      { ...one, license: expressionOf(one.license), folder: dirname(one.manifest_path) },
    ]),
  ),
);
const linked = [...crates.values()].toSorted(byName);
for (const one of linked) {
  one.texts = textsIn(one.folder);
  const elsewhere = TEXT_ELSEWHERE.find(([name]) => name.test(one.name));
  if (one.texts.length === 0 && elsewhere !== undefined)
    one.texts = textsIn(join(root, elsewhere[1]));
}
const standard = (id) => {
  const text = linked
    .flatMap(({ texts }) => texts)
    .find(({ name }) => id === 'Apache-2.0' && /apache/i.test(name));
  return text === undefined ? [] : [text];
};
for (const one of linked.filter(({ texts }) => texts.length === 0)) {
  one.texts = standard(STANDARD.find(([name]) => name.test(one.name))?.[1]);
  if (one.texts.length === 0)
    fail(
      `scripts/notices.mjs: ${one.name} ${one.version} (${one.license}) has no licence text; say there where it is.`,
    );
}
// Of the same project as serde's, whose texts name no holder either.
const { texts: rustTexts } =
  linked.find(({ name }) => name === 'serde_core') ??
  fail('the texts of the Rust project are missing');
const uplot = join(root, 'node_modules', 'uplot');
if (!existsSync(uplot)) fail('the development packages are missing: run "npm ci" first.');
/** A development package whose text ends up in this one. */
const inlined = (folder) => ({ ...json(join(folder, 'package.json')), texts: textsIn(folder) });

const groups = [
  [
    'Linked into the native addon, on some platform or all',
    [
      {
        name: "Rust's standard library",
        version: '',
        license: 'MIT OR Apache-2.0',
        texts: rustTexts,
      },
      ...linked,
    ],
  ],
  ['Inlined into the live page', [{ ...inlined(uplot), name: 'uPlot' }]],
  [
    'Inlined into the type declarations',
    [inlined(join(root, 'node_modules', '@standard-schema', 'spec'))],
  ],
];
// The same words are the same text, however their lines are broken.
const numbers = new Map();
const texts = [];
const numberOf = ({ text }) => {
  const words = text.replaceAll(/\s+/g, ' ');
  if (!numbers.has(words)) numbers.set(words, texts.push(text));
  return numbers.get(words);
};
const row = ({ name, version, license, texts: own }) =>
  `| ${name} | ${version} | ${license} | ${[...new Set(own.map(numberOf))].map((number) => `[${number}](#text-${number})`).join(', ')} |`;
const tables = groups.map(
  ([title, all]) =>
    `## ${title}\n\n| | version | licence | texts |\n| --- | --- | --- | --- |\n${all.map(row).join('\n')}\n`,
);
// No text ends the fence that it stands in.
const fence = '`'.repeat(
  Math.max(
    3,
    ...texts.map(
      (text) => 1 + Math.max(0, ...[...text.matchAll(/`+/g)].map(([run]) => run.length)),
    ),
  ),
);
const printed = texts.map((text, at) => `### Text ${at + 1}\n\n${fence}text\n${text}\n${fence}\n`);
const head =
  '# Third-party notices\n\nGenerated by `scripts/notices.mjs` from `Cargo.lock` and what it names. Do not edit.\n';
writeFileSync(
  join(root, 'THIRD-PARTY-NOTICES.md'),
  [head, ...tables, '## Texts\n', ...printed].join('\n'),
);
