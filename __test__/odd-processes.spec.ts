/** The package in processes that lack something that others have, by flags of the host or by limits of the system. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';

const BUN = 'bun' in process.versions;

/** Runs a script on this host, and returns its output, errors of the process included. */
function run(flags: readonly string[], script: string, limit = ''): string {
  const args = BUN ? ['-e', script] : ['--input-type=module', '-e', script];
  const { stdout, stderr, status } = spawnSync(
    'sh',
    ['-c', `${limit} exec "$@"`, 'sh', process.execPath, ...flags, ...args],
    { encoding: 'utf8', timeout: 20_000 },
  );
  return status === 0 ? stdout : `${stdout}${status} ${stderr}`;
}

/** A guarded server and two clients, of which one is refused. Their ids are random. */
const SERVES = `
  import { createServer } from 'node:http';
  import { WebSocket, WebSocketServer } from 'ws';
  import { connectionOf, portcullis } from './dist/ws.js';
  const guard = portcullis({ limits: { maxTotalConnections: 1 } });
  const server = createServer(guard.request((request, response) => response.end('served')));
  const sockets = new WebSocketServer({ noServer: true });
  guard.attach(server, sockets);
  sockets.on('connection', (socket) => {
    const { id, requestId } = connectionOf(socket);
    socket.send(id.length + ' ' + requestId.length);
  });
  server.listen(0, '127.0.0.1', () => {
    const url = 'ws://127.0.0.1:' + server.address().port;
    new WebSocket(url).on('message', (text) => {
      console.log(String(text));
      new WebSocket(url).on('error', ({ message }) => {
        console.log(message);
        process.exit(0);
      });
    });
  });`;

// Flags of Node only.
describe.skipIf(BUN)('a process of Node (Bun has no such flags)', () => {
  it.each([
    ['without WebAssembly', '--jitless'],
    // As with `--no-experimental-global-webcrypto`, for which a script of `-e` still has a `crypto`.
    ['without a global crypto', '--import=data:text/javascript,delete%20globalThis.crypto'],
  ])('%s loads the adapter of ws, and serves', (_, flag) => {
    expect(run([flag], SERVES)).toBe('36 36\nUnexpected server response: 503\n');
  });

  it('that throws for deprecated functions runs timers, microtasks between them', () => {
    const script = `
      import { TimerManager } from './dist/index.js';
      const timers = new TimerManager();
      process.on('warning', ({ code }) => console.log(code));
      for (const name of ['a', 'b'])
        timers.setTimeout(() => {
          console.log(name);
          process.nextTick(console.log, 'tick ' + name);
          Promise.resolve('job ' + name).then(console.log);
        }, 5);
      for (const end = performance.now() + 20; performance.now() < end;);`;
    const expected = 'a\ntick a\njob a\nb\ntick b\njob b\n';
    expect(run(['--pending-deprecation', '--throw-deprecation'], script)).toBe(expected);
    expect(run(['--pending-deprecation'], script)).toBe(expected);
  });
});

// Other systems need no file for the figures.
describe.runIf(process.platform === 'linux')('a process without a free descriptor', () => {
  // A monitor keeps its files open.
  it.each([
    ['undefined', 'unknown'],
    ['new ResourceMonitor({ memory: { maxHeapSizeMb: 512 } }, { timers, log: false })', 'known'],
  ])('has figures, without those that are read from files; monitor: %s', (monitor, memory) => {
    const script = `
        import { closeSync, openSync } from 'node:fs';
        import { ConnectionManager, ProductionMetrics, ResourceMonitor, TimerManager } from './dist/index.js';
        import { Recorder } from './dist/page/recorder.js';
        import { SHOWN } from './dist/page/mask.js';
        const timers = new TimerManager();
        const monitor = ${monitor};
        const metrics = new ProductionMetrics({ timers, monitor });
        const connections = new ConnectionManager({}, timers);
        const recorder = new Recorder({ connections, timers, monitor, metrics }, 'Test', 8, SHOWN);
        // Modules are loaded when they are first used, from files.
        await metrics.toPrometheus();
        const known = metrics.snapshot().metrics.memoryUsage > 0;
        const files = [];
        try { for (;;) files.push(openSync('/dev/null')); } catch {}
        const { memoryUsage } = metrics.snapshot().metrics;
        const { state } = recorder.look(1, 0, true);
        const texts = [await metrics.toPrometheus(), await metrics.toOpenMetrics(), await metrics.toPrometheus({ naming: 'otel' })];
        new ProductionMetrics({ timers }).close();
        for (const file of files) closeSync(file);
        console.log(known, memoryUsage === null ? 'unknown' : 'known', typeof state, texts.every((text) => /^process_uptime_seconds /m.test(text) && /^process_memory_usage_bytes /m.test(text) === (memoryUsage !== null)));
        process.exit(0);`;
    expect(run([], script, 'ulimit -n 100;')).toBe(`true ${memory} string true\n`);
  });
});
