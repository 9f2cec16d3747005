// Builds a guarded server with each bundler and package manager, moves the result away from its
// packages, starts it, and has it admit one client and refuse the next. docs/bundlers.md tells users
// the same settings.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { json, root, tool } from '../lib/project.mjs';
import { check, demand, output, skip } from './checks.mjs';

const SOURCES = join(root, 'scripts', 'pack', 'bundlers');
const node = process.execPath;
const bun = tool('bun');
/** An environment in which the addon is looked up as in production. */
const BARE = { NAPI_RS_NATIVE_LIBRARY_PATH: '', NEXT_TELEMETRY_DISABLED: '1', CI: 'true' };
const BANNER =
  'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);';
const TRIED = 'admitted 101, refused 429';

/** Installs the tools, and the packed portcullis beside them; returns the folder. */
function toolsFolder(work, tarballs) {
  const into = join(work, 'bundlers');
  cpSync(SOURCES, into, { recursive: true });
  // Not `npm ci`: it refuses the lock file if a registry lacks an optional package of another platform.
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--ignore-scripts'];
  output('npm', ['install', ...quiet, '--no-save', tarballs.addon, tarballs.main], into);
  return into;
}

/** Runs a command that has to start the server. */
function tries(command, args, cwd, env = {}) {
  const text = output(command, args, cwd, { ...BARE, ...env });
  demand(text.includes(TRIED), `it said: ${text.slice(-600)}`);
}

class Bundlers {
  #work;
  #tools;

  constructor(work, tools) {
    this.#work = work;
    this.#tools = tools;
  }

  /** Runs one of the tools. */
  #tool(name, ...args) {
    return output(join(this.#tools, 'node_modules', '.bin', name), args, this.#tools, BARE);
  }

  #config(name, code) {
    writeFileSync(join(this.#tools, name), code);
  }

  #imports(name, from) {
    const at = pathToFileURL(join(this.#tools, 'package.json'));
    return `import { createRequire } from 'node:module';\nconst ${name} = createRequire('${at}')('${from}');\n`;
  }

  /** Copies a bundle to a folder from which no package can be found; returns the folder. */
  #away(built) {
    const into = join(this.#work, `away-${built}`);
    cpSync(join(this.#tools, built), into, { recursive: true });
    return into;
  }

  /** Runs a bundle away from its packages; without the addon, it has to name the bundle. */
  #runs(built, command, file) {
    const away = this.#away(built);
    tries(command, [file], away);
    for (const name of readdirSync(away, { recursive: true }))
      if (name.endsWith('.node')) rmSync(join(away, name));
    const { stderr } = spawnSync(command, [file], {
      cwd: away,
      encoding: 'utf8',
      env: { ...process.env, ...BARE },
    });
    demand(
      /ERR_ADDON_MISSING/.test(stderr) && /not beside the bundle/.test(stderr),
      `without the addon it said: ${stderr.slice(0, 1500)}`,
    );
  }

  bunCompile(source) {
    const away = join(this.#work, `compiled-${source}`);
    mkdirSync(away);
    const file = join(away, process.platform === 'win32' ? 'app.exe' : 'app');
    const options = ['--minify-whitespace', '--minify-syntax', '--target', 'bun'];
    output(bun, ['build', '--compile', ...options, '--outfile', file, source], this.#tools);
    tries(file, [], away);
    if (process.platform === 'linux') {
      const env = { ...process.env, ...BARE, TMPDIR: '/nowhere', BUN_TMPDIR: '/nowhere' };
      const { stderr } = spawnSync(file, { encoding: 'utf8', env });
      demand(
        /cannot write portcullis's addon to the temporary folder/.test(stderr),
        `without a temporary folder it said: ${stderr.slice(0, 600)}`,
      );
    }
    rmSync(away, { recursive: true });
  }

  bunBuild(target, command) {
    const built = `out-bun-${target}`;
    output(bun, ['build', `--target=${target}`, 'server.mjs', '--outdir', built], this.#tools);
    this.#runs(built, command, 'server.js');
  }

  /** By a script and not by arguments, whose quotes a shell of Windows would change. */
  esbuild(format, file, banner = '') {
    const built = `out-esbuild-${format}`;
    const options = {
      entryPoints: ['server.mjs'],
      bundle: true,
      platform: 'node',
      format,
      loader: { '.node': 'copy' },
      banner: { js: banner },
      outfile: `${built}/${file}`,
    };
    const code = `import { build } from 'esbuild';\nawait build(${JSON.stringify(options)});\n`;
    this.#config('esbuild.config.mjs', code);
    output(node, ['esbuild.config.mjs'], this.#tools, BARE);
    this.#runs(built, node, file);
  }

  /** An ECMAScript module without `require` names its cause. */
  esbuildWithoutRequire() {
    const options = ['--bundle', '--platform=node', '--format=esm', '--loader:.node=copy'];
    writeFileSync(
      join(this.#tools, 'plain.mjs'),
      "import { isPublicAddress } from 'portcullis';\nconsole.log(isPublicAddress('127.0.0.1'));\n",
    );
    this.#tool('esbuild', 'plain.mjs', ...options, '--outfile=out-plain/plain.mjs');
    const { stderr } = spawnSync(node, ['plain.mjs'], {
      cwd: this.#away('out-plain'),
      encoding: 'utf8',
    });
    demand(
      /ERR_ADDON_UNUSABLE/.test(stderr) && /createRequire/.test(stderr),
      `it said: ${stderr.slice(0, 1500)}`,
    );
  }

  webpack() {
    this.#config(
      'webpack.config.mjs',
      `export default {
        mode: 'production',
        target: 'node',
        entry: './server.mjs',
        output: { path: '${join(this.#tools, 'out-webpack').replaceAll('\\', '/')}', filename: 'server.cjs' },
        module: { rules: [{ test: /\\.node$/, loader: 'node-loader', options: { name: '[name].[ext]' } }] },
        ignoreWarnings: [{ module: /portcullis.native.loader/ }, /bufferutil|utf-8-validate/],
      };`,
    );
    const said = this.#tool('webpack', '--config', 'webpack.config.mjs');
    demand(!/WARNING/.test(said), `it warned: ${said.slice(0, 1000)}`);
    this.#runs('out-webpack', node, 'server.cjs');
  }

  rollup() {
    this.#config(
      'rollup.config.mjs',
      `${this.#imports('{ nodeResolve }', '@rollup/plugin-node-resolve')}
      const commonjs = createRequire('${pathToFileURL(join(this.#tools, 'package.json'))}')('@rollup/plugin-commonjs');
      export default {
        input: 'server.mjs',
        output: { dir: 'out-rollup', format: 'es', entryFileNames: 'server.mjs' },
        external: [/^node:/, /^portcullis/],
        plugins: [nodeResolve({ preferBuiltins: true }), (commonjs.default ?? commonjs)()],
      };`,
    );
    this.#tool('rollup', '--config', 'rollup.config.mjs');
    tries(node, [join('out-rollup', 'server.mjs')], this.#tools);
  }

  vite() {
    this.#tool('vite', 'build', '--ssr', 'server.mjs', '--outDir', 'out-vite');
    const [file] = readdirSync(join(this.#tools, 'out-vite')).filter((name) =>
      /^server\.m?js$/.test(name),
    );
    tries(node, [join('out-vite', file)], this.#tools);
  }

  next() {
    const app = join(this.#tools, 'app');
    mkdirSync(join(app, 'guard'), { recursive: true });
    const route = `export const dynamic = 'force-dynamic';
      export async function GET() {
        const { ConnectionManager, TimerManager } = await import('portcullis');
        const { FakeSocket } = await import('portcullis/testing');
        const timers = new TimerManager();
        const manager = new ConnectionManager({ maxConnectionsPerIp: 1 }, { timers });
        const codes = ['one', 'two'].map((id) => manager.addConnection(id, new FakeSocket(), '203.0.113.1').code ?? 'admitted');
        manager.close();
        timers.close();
        return Response.json(codes);
      }`;
    writeFileSync(join(app, 'guard', 'route.js'), route);
    writeFileSync(
      join(app, 'layout.js'),
      'export default ({ children }) => <html><body>{children}</body></html>;',
    );
    this.#config(
      'next.config.mjs',
      `export default { output: 'standalone', outputFileTracingRoot: import.meta.dirname, turbopack: { root: import.meta.dirname }, serverExternalPackages: ['portcullis'] };`,
    );
    this.#tool('next', 'build');
    const away = join(this.#work, 'away-next');
    cpSync(join(this.#tools, '.next', 'standalone'), away, { recursive: true });
    cpSync(join(SOURCES, 'ask-next.mjs'), join(away, 'ask-next.mjs'));
    const text = output(node, ['ask-next.mjs'], away, BARE);
    demand(text.includes('["admitted","ip_limit"]'), `it said: ${text.slice(-600)}`);
  }

  jest() {
    this.#config('jest.config.json', JSON.stringify({ testEnvironment: 'node' }));
    const said = this.#tool('jest', '--config', 'jest.config.json', '--ci');
    demand(/3 passed/.test(said), said.slice(-1500));
  }
}

const fileUrl = (path) => `file:${path.replaceAll('\\', '/')}`;

/** Writes a project whose package manager takes both packages from their tarballs. */
function manifestFor(into, tarballs, addonName, overrides) {
  mkdirSync(into);
  for (const name of ['server.mjs', 'server.cjs', 'client.cjs'])
    cpSync(join(SOURCES, name), join(into, name));
  const { ws } = json(join(SOURCES, 'package.json')).devDependencies;
  const addon = { [addonName]: fileUrl(tarballs.addon) };
  writeFileSync(
    join(into, 'package.json'),
    JSON.stringify({
      name: 'managed',
      version: '1.0.0',
      private: true,
      dependencies: { portcullis: fileUrl(tarballs.main), ws },
      ...overrides(addon),
    }),
  );
}

function checkPnpm(work, tools, tarballs, addonName) {
  const into = join(work, 'pnpm');
  manifestFor(into, tarballs, addonName, (addon) => ({ pnpm: { overrides: addon } }));
  const file = JSON.stringify(fileUrl(tarballs.addon));
  writeFileSync(
    join(into, 'pnpm-workspace.yaml'),
    `overrides:\n  ${JSON.stringify(addonName)}: ${file}\n`,
  );
  output(
    join(tools, 'node_modules', '.bin', 'pnpm'),
    ['install', '--store-dir', join(work, 'pnpm-store'), '--no-frozen-lockfile'],
    into,
    BARE,
  );
  for (const file of ['server.mjs', 'server.cjs']) tries(node, [file], into);
}

function checkYarn(work, tools, tarballs, addonName) {
  const into = join(work, 'yarn');
  manifestFor(into, tarballs, addonName, (resolutions) => ({ resolutions }));
  writeFileSync(join(into, 'yarn.lock'), '');
  const registry = spawnSync('npm', ['config', 'get', 'registry'], { encoding: 'utf8', cwd: into });
  const env = {
    ...BARE,
    YARN_NODE_LINKER: 'pnp',
    YARN_NPM_REGISTRY_SERVER: registry.stdout.trim().replace(/\/$/, ''),
    YARN_GLOBAL_FOLDER: join(work, 'yarn-global'),
    YARN_ENABLE_IMMUTABLE_INSTALLS: 'false',
    YARN_ENABLE_TELEMETRY: 'false',
  };
  const yarn = join(tools, 'node_modules', '@yarnpkg', 'cli-dist', 'bin', 'yarn.js');
  output(node, [yarn, 'install'], into, env);
  for (const file of ['server.mjs', 'server.cjs']) tries(node, [yarn, 'node', file], into, env);
}

/** Checks every bundler and package manager of docs/bundlers.md. */
export function checkBundlers(work, tarballs, addonName) {
  let tools;
  const ready = check('bundlers are installed', () => {
    tools = toolsFolder(work, tarballs);
  });
  if (!ready) return;
  const bundlers = new Bundlers(work, tools);
  check('bun build --compile, ws', () => bundlers.bunCompile('server.mjs'));
  check('bun build --compile, Elysia', () => bundlers.bunCompile('elysia.mjs'));
  check('bun build --target=bun', () => bundlers.bunBuild('bun', bun));
  check('bun build --target=node', () => bundlers.bunBuild('node', node));
  check('esbuild, CommonJS', () => bundlers.esbuild('cjs', 'server.cjs'));
  check('esbuild, ESM', () => bundlers.esbuild('esm', 'server.mjs', BANNER));
  check('esbuild, ESM without require', () => bundlers.esbuildWithoutRequire());
  check('webpack', () => bundlers.webpack());
  check('rollup', () => bundlers.rollup());
  check('Vite SSR', () => bundlers.vite());
  check('Jest, CommonJS', () => bundlers.jest());
  // Turbopack needs a compiler that npm has for these platforms only.
  if (['linux', 'darwin', 'win32'].includes(process.platform))
    check('Next standalone', () => bundlers.next());
  else skip('Next standalone', 'there is no compiler of Next for this platform');
  check('pnpm', () => checkPnpm(work, tools, tarballs, addonName));
  check('Yarn PnP', () => checkYarn(work, tools, tarballs, addonName));
}
