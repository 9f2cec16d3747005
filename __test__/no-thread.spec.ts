import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

// An ordinary user to whom the system gives no further thread. Root is not limited, so the script gives its rights up.

const RUNTIMES = { node: 'node', bun: 'node_modules/.bin/bun' };
/** Bun starts threads of its compiler and collector when it first needs them, and ends if it cannot. */
const NO_THREADS_OF_BUN = {
  BUN_JSC_useConcurrentJIT: '0',
  BUN_JSC_useConcurrentGC: '0',
  BUN_JSC_numberOfGCMarkers: '1',
};
const hasPrlimit = spawnSync('prlimit', ['--version']).status === 0;

const SCRIPT = `
  const { spawnSync } = require('node:child_process');
  const { readdirSync } = require('node:fs');
  const portcullis = require('./dist/index.cjs');
  const { Cluster, ConnectionManager, PortcullisError, ResourceMonitor, TimerManager } = portcullis;
  const timers = new TimerManager();
  const acts = {
    monitor: () => new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, { timers }),
    cluster: () => {
      const cluster = new Cluster({ url: 'redis://127.0.0.1:1' });
      try {
        new ConnectionManager({}, { name: 'cluster', cluster });
      } finally {
        cluster.close();
      }
    },
    host: () => new ConnectionManager({}, { name: 'no-thread-' + process.pid, cluster: 'host' }),
  };
  const codeOf = (act) => {
    try {
      act();
    } catch (error) {
      return error instanceof PortcullisError ? error.code : String(error);
    }
  };
  const open = () => readdirSync('/proc/self/fd').length;
  const turn = () => new Promise((resolve) => setTimeout(resolve, 1));
  const main = async () => {
    if (process.getuid() === 0) process.setuid(65534);
    spawnSync('prlimit', ['--pid', process.pid, '--nproc=1:1']);
    const codes = Object.fromEntries(Object.entries(acts).map(([name, act]) => [name, codeOf(act)]));
    await turn();
    const before = open();
    for (let at = 0; at < 10; at++) Object.values(acts).forEach(codeOf);
    // Sockets close in later turns.
    for (let at = 0; at < 1000 && open() > before; at++) await turn();
    console.log(JSON.stringify({ codes, left: open() - before }));
    process.exit();
  };
  void main();`;

for (const [name, runtime] of Object.entries(RUNTIMES))
  it.skipIf(!hasPrlimit)(
    `a thread that cannot be started has its code, and keeps no descriptor, on ${name}${hasPrlimit ? '' : ' (skipped: no prlimit)'}`,
    () => {
      const env = { ...process.env, ...NO_THREADS_OF_BUN };
      const { stdout, stderr } = spawnSync(runtime, ['-e', SCRIPT], { encoding: 'utf8', env });
      expect(stderr).toBe('');
      const code = 'ERR_NO_THREAD';
      expect(JSON.parse(stdout)).toEqual({
        codes: { monitor: code, cluster: code, host: code },
        left: 0,
      });
    },
  );
