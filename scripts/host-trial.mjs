// npm run host:trial: one limit over the processes of this host, which are killed again and again. Ends with code 1 if a
// limit was passed, a seat was lost, or a process ended by itself.
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { replay } from '../cluster/replay.mjs';
import { readOptions } from './lib/options.mjs';
import { root } from './lib/project.mjs';

const LIMITS = { total: 400, user: 3, address: 12 };
const NODE = join(root, 'cluster', 'host-node.mjs');
const BUN = join(root, 'node_modules', '.bin', 'bun');
const PATIENCE_MS = 20_000;
const USAGE = `npm run host:trial -- [options]
  --seconds N    length of the run (default 20)
  --processes N  processes at once, 2 to 16 (default 4)
  --runtime A    node or bun, may be repeated (default both)
  --short        5 seconds`;
const given = readOptions(
  USAGE,
  {
    seconds: { type: 'number', above: 0, most: 3600 },
    processes: { type: 'integer', least: 2, most: 16, default: 4 },
    runtime: { type: 'string', multiple: true, of: ['node', 'bun'], default: ['node', 'bun'] },
    short: { type: 'boolean', default: false },
  },
  2,
);
if (process.platform !== 'linux') {
  console.log("skipped: cluster: 'host' needs Linux");
  process.exit(0);
}
const seconds = given.seconds ?? (given.short ? 5 : 20);
const name = `trial-${randomUUID()}`;
const folder = mkdtempSync(join(tmpdir(), 'portcullis-host-'));
const problems = [];
/** Running processes by label, and the times at which the others ended. */
const nodes = new Map();
const ended = new Map();
const reclaimedMs = [];
let serial = 0;

async function start() {
  const label = `n${serial}`;
  const runtime = given.runtime[serial % given.runtime.length];
  const child = spawn(runtime === 'bun' ? BUN : process.execPath, [NODE], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: {
      ...process.env,
      HOST_NODE: JSON.stringify({
        name,
        label,
        log: join(folder, `${label}.log`),
        seed: ++serial,
        limits: {
          maxTotalConnections: LIMITS.total,
          maxConnectionsPerIp: LIMITS.address,
          maxConnectionsPerUser: LIMITS.user,
        },
        users: 200,
        addresses: 60,
        target: 130,
      }),
    },
  });
  const node = { label, child, waiting: [], isKilled: false };
  nodes.set(label, node);
  node.gone = new Promise((done) => child.once('exit', (...why) => done(why)));
  void node.gone.then((why) => {
    nodes.delete(label);
    if (!node.isKilled) problems.push(`${label} ended by itself: ${why}`);
    for (const answer of node.waiting.splice(0)) answer(undefined);
  });
  let text = '';
  const started = new Promise((done) => {
    child.stdout.on('data', (data) => {
      text += data;
      for (let end; (end = text.indexOf('\n')) !== -1; text = text.slice(end + 1)) {
        const line = text.slice(0, end);
        if (line === 'started') done();
        if (line.startsWith('report ')) node.waiting.shift()?.(JSON.parse(line.slice(7)));
      }
    });
  });
  await Promise.race([started, node.gone]);
  return node;
}

function ask(node, command) {
  const answer = new Promise((done) => node.waiting.push(done));
  node.child.stdin.write(`${command}\n`);
  return answer;
}

const askAll = async (command) =>
  (await Promise.all([...nodes.values()].map((node) => ask(node, command)))).filter(Boolean);

/** The state of a process: `T` is stopped. */
const stateOf = (pid) => /\) (\w)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1];

/**
 * Kills a process in the middle of whatever it does. It is stopped first, so that the time of its end is known: its
 * seats may be free a moment later.
 */
async function kill(node) {
  node.isKilled = true;
  node.child.kill('SIGSTOP');
  while (stateOf(node.child.pid) !== 'T') await sleep(1);
  ended.set(node.label, Date.now());
  const killedAt = performance.now();
  node.child.kill('SIGKILL');
  await node.gone;
  const [witness] = nodes.values();
  for (const until = performance.now() + PATIENCE_MS; performance.now() < until; await sleep(5)) {
    const report = await ask(witness, 'report');
    if (report === undefined || report.host.processes <= nodes.size) {
      reclaimedMs.push(performance.now() - killedAt);
      return;
    }
  }
  problems.push(`${node.label}: its seats are still taken after ${PATIENCE_MS / 1000} s`);
}

const sum = (reports, field) => reports.reduce((all, report) => all + report[field], 0);
let kills = 0;
const outcomes = {};
try {
  await Promise.all(Array.from({ length: given.processes }, start));
  for (const until = Date.now() + seconds * 1000; Date.now() < until;) {
    await sleep(100 + Math.random() * 300);
    const all = [...nodes.values()];
    const victim = all[Math.floor(Math.random() * all.length)];
    for (const [code, count] of Object.entries((await ask(victim, 'report'))?.outcomes ?? {}))
      outcomes[code] = (outcomes[code] ?? 0) + count;
    await kill(victim);
    kills++;
    await start();
  }
  await askAll('quiet');
  const rest = await askAll('report');
  const held = sum(rest, 'held');
  for (const { label, host } of rest)
    if (host.totalConnections !== held)
      problems.push(`at rest: ${label} counts ${host.totalConnections}, ${held} are held`);
  if (sum(rest, 'totalConnections') !== held) problems.push('at rest: the own counts differ');
  await askAll('empty');
  for (const { label, host } of await askAll('report'))
    if (host.totalConnections !== 0)
      problems.push(`at the end: ${label} counts ${host.totalConnections} seats that nobody holds`);
  const rate = { limit: 1, windowMs: 1 };
  const seen = replay(folder, ended, LIMITS, rate);
  const { total, user, address } = seen.over;
  if (!(Math.max(total, user, address) <= 0))
    problems.push(`over the limit: total ${total}, user ${user}, address ${address}`);
  const worst = Math.max(...reclaimedMs);
  const mean = reclaimedMs.reduce((all, ms) => all + ms, 0) / reclaimedMs.length;
  console.log(
    `${seen.grants} grants, most ${seen.most} of ${LIMITS.total}, over ${total}/${user}/${address}, ${kills} killed, seats back after ${mean.toFixed(0)} ms, at most ${worst.toFixed(0)} ms`,
  );
  console.log(`outcomes of the killed: ${JSON.stringify(outcomes)}`);
} finally {
  for (const node of nodes.values()) {
    node.isKilled = true;
    // They leave by themselves: the last one removes the file.
    node.child.stdin.end();
  }
  await Promise.all([...nodes.values()].map(({ gone }) => gone));
  rmSync(folder, { recursive: true, force: true });
}
for (const problem of problems) console.log(`FAIL ${problem}`);
console.log(problems.length === 0 ? 'as expected' : `${problems.length} problems`);
process.exit(problems.length === 0 ? 0 : 1);
