import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import ts from 'typescript';
import { expect, it } from 'vitest';

it.each([
  ['all entries share their classes, and Elysia and Eden keep their inference', 'types'],
  ['a handle is a timer of the host on Node', 'types/node'],
  ['bytes of metrics are a body of a response in a program with the DOM library', 'types/dom'],
])('%s', (_name, folder) => {
  const { stdout, status } = spawnSync(
    'node_modules/.bin/tsc',
    ['-p', `__test__/${folder}/tsconfig.json`],
    { encoding: 'utf8' },
  );
  expect([stdout, status]).toEqual(['', 0]);
});

/** Types that the library also returns, or that are data: there an absent property is absent. */
const NO_OPTIONS = ['TokenClaims'];
const FILES = [
  'index.d.ts',
  'dist/elysia.d.ts',
  'dist/ws.d.ts',
  'dist/bun.d.ts',
  'dist/socket.io.d.ts',
  'dist/testing.d.ts',
];

/** Finds optional properties that refuse `undefined`, in the parameters of the exported functions and classes. */
class RefusedUndefined {
  readonly found = new Set<string>();
  readonly #checker: ts.TypeChecker;
  readonly #files: readonly string[];
  readonly #seen = new Set<ts.Type>();

  constructor(files: readonly string[]) {
    this.#files = files.map((file) => resolve(file));
    const program = ts.createProgram(this.#files, {
      strict: true,
      exactOptionalPropertyTypes: true,
      skipLibCheck: true,
      module: ts.ModuleKind.NodeNext,
    });
    this.#checker = program.getTypeChecker();
    for (const file of this.#files) {
      const module = this.#checker.getSymbolAtLocation(program.getSourceFile(file)!);
      for (const symbol of this.#checker.getExportsOfModule(module!)) this.#export(symbol);
    }
  }

  #export(symbol: ts.Symbol): void {
    const { Alias, Class, Interface } = ts.SymbolFlags;
    const { flags, name } = symbol;
    if ((flags & Alias) !== 0) return this.#export(this.#checker.getAliasedSymbol(symbol));
    if ((flags & Interface) !== 0 && /(Options|Input)$/.test(name))
      this.#input(this.#checker.getDeclaredTypeOfSymbol(symbol));
    if (symbol.valueDeclaration === undefined || !this.#isOurs(symbol)) return;
    this.#call(this.#checker.getTypeOfSymbol(symbol));
    if ((flags & Class) === 0) return;
    for (const member of this.#checker.getDeclaredTypeOfSymbol(symbol).getProperties())
      if (this.#isOurs(member)) this.#call(this.#checker.getTypeOfSymbol(member));
  }

  /** Looks at the parameters of a function or a class. */
  #call(type: ts.Type): void {
    for (const { parameters } of [...type.getCallSignatures(), ...type.getConstructSignatures()])
      for (const parameter of parameters) this.#input(this.#checker.getTypeOfSymbol(parameter));
  }

  #input(type: ts.Type): void {
    if (this.#seen.has(type) || NO_OPTIONS.includes(type.symbol?.name)) return;
    this.#seen.add(type);
    if (type.isUnionOrIntersection()) return type.types.forEach((part) => this.#input(part));
    if (type.isClass() || type.isTypeParameter() || type.getCallSignatures().length > 0) return;
    const { Method, Optional } = ts.SymbolFlags;
    for (const property of type.getProperties()) {
      if (!this.#isOurs(property) || (property.flags & Method) !== 0) continue;
      const given = this.#checker.getTypeOfSymbol(property);
      const parts = given.isUnion() ? given.types : [given];
      const undefinedType = this.#checker.getUndefinedType();
      const admits =
        parts.includes(undefinedType) ||
        (given.flags & (ts.TypeFlags.Any | ts.TypeFlags.Unknown)) !== 0;
      if ((property.flags & Optional) !== 0 && !admits)
        this.found.add(`${this.#checker.typeToString(type)}.${property.name}`);
      this.#input(given);
    }
  }

  #isOurs({ declarations = [] }: ts.Symbol): boolean {
    return declarations.some((one) => this.#files.includes(one.getSourceFile().fileName));
  }
}

it('every option may be undefined, which is the same as absent', () => {
  expect([...new RefusedUndefined(FILES).found]).toEqual([]);
});
