// The processes of servers and clients, each on its own core if the machine has two.
import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { root, tool } from '../scripts/lib/project.mjs';

const SERVERS = {
  bun: [tool('bun'), 'load/elysia.ts'],
  node: [process.execPath, 'load/node.mjs'],
};
/**
 * Open files that a process needs besides its connections: its own, the pipe of its parent, pending
 * handshakes.
 */
const SPARE_FILES = 500;

/** Returns the cores that this process may use; Linux lists them as "0-2,5". */
function cores() {
  if (process.platform !== 'linux' || spawnSync('taskset', ['--version']).error) return [];
  const list =
    /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
  return list.split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

const [serverCore, clientCore] = cores();
/** True if servers and clients run on a core each. */
export const arePinned = clientCore !== undefined;

/**
 * Returns a sentence that says how to raise a limit of open files that is too low; `undefined` if
 * it is high enough.
 */
export function filesProblem(connections) {
  const needed = connections + SPARE_FILES;
  if (process.platform === 'win32' || spawnSync('sh', ['-c', `ulimit -n ${needed}`]).status === 0)
    return undefined;
  const hard = spawnSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' }).stdout.trim();
  return `${connections} connections need ${needed} open files a process, and the hard limit is ${hard}. Raise it ("ulimit -Hn ${needed}" as root, LimitNOFILE of systemd, --ulimit nofile=${needed} of docker), or ask for fewer: npm run load -- --connections ${Math.max(20, Number(hard) - SPARE_FILES)}`;
}

/** A child process that answers questions, one at a time. */
class Talker {
  #child;
  #waiting;
  #isEnding = false;
  onProgress = () => undefined;

  constructor(command, args, core, connections, cwd = root) {
    const pinned = arePinned
      ? ['taskset', '-c', String(core), command, ...args]
      : [command, ...args];
    const needed = connections + SPARE_FILES;
    // Never lower the limit: a process may need more files than its connections.
    const raise = `[ "$(ulimit -n)" = unlimited ] || [ "$(ulimit -n)" -ge ${needed} ] || ulimit -n ${needed}; exec "$@"`;
    const [file, ...rest] =
      process.platform === 'win32' ? pinned : ['sh', '-c', raise, 'sh', ...pinned];
    this.#child = spawn(file, rest, { cwd, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child.on('message', (message) => {
      if (message.progress !== undefined) return this.onProgress(message.progress);
      const { resolve, reject } = this.#waiting ?? {};
      this.#waiting = undefined;
      return message.error === undefined ? resolve?.(message) : reject?.(new Error(message.error));
    });
    this.#child.on('error', (error) => this.#waiting?.reject(error));
    this.#child.on('exit', (code, signal) => {
      if (!this.#isEnding)
        this.#waiting?.reject(
          new Error(`${args.join(' ')} ended unexpectedly with ${code ?? signal}`),
        );
    });
    this.hello = this.#answer();
  }

  #answer() {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
    });
  }

  ask(question) {
    const answer = this.#answer();
    this.#child.send(question, (error) => {
      if (error !== null) this.#waiting?.reject(error);
    });
    return answer;
  }

  end() {
    this.#isEnding = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return undefined;
    const ended = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill('SIGKILL');
    return ended;
  }
}

/**
 * @param without features of portcullis to leave out: some of `PARTS`
 * @param tree folder of the checkout whose server it is
 */
export const startServer = (host, contestant, connections, without = [], tree = root) => {
  const [command, file] = SERVERS[host];
  const args = [file, contestant, String(connections), ...without];
  return new Talker(command, args, serverCore, connections, tree);
};
export const startClients = (port, connections) =>
  new Talker(
    tool('bun'),
    ['load/client.ts', String(port), String(connections)],
    clientCore,
    connections,
  );
