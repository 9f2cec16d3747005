// npm run rolling: restarts a fleet behind a balancer while clients send requests, on every host, and counts what
// the clients lose. Ends with a table, and with code 1 if a guarded server lost anything.
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Balancer } from '../rolling/balancer.mjs';
import { TLS } from '../rolling/certificate.mjs';
import { Clients, Tally } from '../rolling/clients.mjs';
import { Process, killAll } from '../soak/process.mjs';
import { readOptions } from './lib/options.mjs';
import { build, execute, root, tool } from './lib/project.mjs';

const NODE = [process.execPath];
const BUN = [tool('bun')];
const WS = 'rolling/servers/ws.mjs';
/** The guarded servers, and the schemes in which each is restarted. */
const GUARDED = {
  ws: { title: 'portcullis/ws on Node', command: NODE, file: WS, schemes: ['http', 'https', 'h2'] },
  bun: {
    title: 'portcullis/bun',
    command: BUN,
    file: 'rolling/servers/bun.ts',
    schemes: ['http', 'https', 'h2'],
  },
  elysia: {
    title: 'portcullis/elysia on Bun',
    command: BUN,
    file: 'rolling/servers/elysia.ts',
    schemes: ['http', 'https'],
  },
};
const PEERS = [
  'server.close()',
  '@godaddy/terminus',
  'http-terminator',
  'stoppable',
  'lightship',
  'fastify',
];
const USAGE = `npm run rolling -- [options]
  --host A       one of the hosts only, may be repeated: ${Object.keys(GUARDED).join(', ')}
  --restarts N   restarts of the whole fleet for each host (default: 3)
  --backends N   servers in a fleet (default: 3)
  --clients N    keep-alive clients (default: 60)
  --peers        also the other libraries, which it installs
  --short        one restart of two servers, for 20 clients`;
const OPTIONS = {
  host: { type: 'string', multiple: true, of: Object.keys(GUARDED), default: Object.keys(GUARDED) },
  restarts: { type: 'integer', least: 1, most: 100 },
  backends: { type: 'integer', least: 2, most: 16 },
  clients: { type: 'integer', least: 1, most: 1000 },
  peers: { type: 'boolean', default: false },
  short: { type: 'boolean', default: false },
};
/** Time for which a leaving server still takes new clients. */
const PRE_DRAIN_MS = 1000;
/** Clients pause shorter than half of it, so that each sends at least once before the drain. */
const IDLE_MS = PRE_DRAIN_MS / 2 - 100;
/** Time until the balancer has heard that a server leaves, as that of endpoints in Kubernetes. */
const UNHEARD_MS = 200;
const WEB_SOCKETS = 10;
/** Readers of endless responses (server-sent events). */
const STREAMS = 5;
/** Time after the signal at which a server that still runs is killed, as Kubernetes does. */
const GRACE_MS = 20_000;

const pause = (ms) => new Promise((resolve) => void setTimeout(resolve, ms));

const given = readOptions(USAGE, OPTIONS, 2);
const small = given.short
  ? { restarts: 1, backends: 2, clients: 20 }
  : { restarts: 3, backends: 3, clients: 60 };
const settings = Object.fromEntries(
  Object.entries(small).map(([name, usual]) => [name, given[name] ?? usual]),
);
build(2);
if (given.peers && !existsSync(join(root, 'rolling/node_modules')))
  execute('npm', ['ci', '--no-audit', '--no-fund'], { cwd: join(root, 'rolling') });

const folder = mkdtempSync(join(tmpdir(), 'portcullis-rolling-'));
for (const [name, text] of Object.entries(TLS)) writeFileSync(join(folder, `${name}.pem`), text);
for (const signal of ['SIGINT', 'SIGTERM'])
  process.once(signal, () => void killAll().then(() => process.exit(130)));

/** Starts a server and waits until it listens. */
async function startOne({ command, file, args = [] }, scheme) {
  const server = new Process(command, [file, ...args], {
    SCHEME: scheme,
    PRE_DRAIN_MS: String(PRE_DRAIN_MS),
    TLS_FOLDER: folder,
  });
  const [, port] = await server.says(/listening on (\d+)/);
  return { server, port: Number(port) };
}

/** Replaces a server of the fleet as a rolling update does: the new one first, then the signal. */
async function replace(fleet, at, host, scheme, balancer) {
  const old = fleet[at];
  fleet[at] = await startOne(host, scheme);
  balancer.add(fleet[at].port);
  old.server.child.kill('SIGTERM');
  await pause(UNHEARD_MS);
  balancer.remove(old.port);
  const killer = setTimeout(() => void old.server.kill(), GRACE_MS);
  const code = await old.server.ended;
  clearTimeout(killer);
  const result = /result (.*)/.exec(old.server.out)?.[1];
  const { graceful = true } = JSON.parse(result ?? '{}');
  return { code, graceful, text: `${result ?? ''}${old.server.err}` };
}

async function trial(host, scheme, webSockets, streams) {
  const balancer = new Balancer();
  const port = await balancer.listen();
  const fleet = [];
  for (let i = 0; i < settings.backends; i++) fleet.push(await startOne(host, scheme));
  for (const one of fleet) balancer.add(one.port);
  const tally = new Tally();
  const clients = new Clients({ port, scheme, idleMs: IDLE_MS, tally });
  clients.begin(settings.clients, webSockets, streams);
  await pause(500);
  const ends = [];
  for (let restart = 0; restart < settings.restarts; restart++)
    for (let at = 0; at < fleet.length; at++)
      ends.push(await replace(fleet, at, host, scheme, balancer));
  await pause(500);
  await clients.stop();
  balancer.close();
  for (const { server } of fleet) await server.kill();
  return { tally, ends };
}

const causes = (counts) =>
  Object.entries(counts)
    .map(([cause, count]) => `${count} ${cause}`)
    .join(', ');
const rows = [];
let guarded = 0;
let failures = 0;

async function run(host, scheme, isGuarded) {
  const [webSockets, streams] = isGuarded ? [WEB_SOCKETS, STREAMS] : [0, 0];
  const { tally, ends } = await trial(host, scheme, webSockets, streams);
  const unclean = ends.filter(({ code, graceful }) => code !== 0 || !graceful);
  const isGood =
    tally.lostInAll + tally.lostSocketsInAll + tally.lostStreamsInAll + unclean.length === 0;
  if (isGuarded) guarded++;
  if (isGuarded && !isGood) failures++;
  rows.push([
    host.title,
    scheme,
    tally.answered,
    tally.lostInAll,
    tally.lostIdle,
    isGuarded ? tally.lostSocketsInAll : '-',
    isGuarded ? tally.reconnects : '-',
    isGuarded ? tally.lostStreamsInAll : '-',
    isGuarded ? tally.streamsMoved : '-',
    `${ends.length - unclean.length} of ${ends.length}`,
  ]);
  const verdict = !isGuarded ? 'peer  ' : isGood ? 'ok    ' : 'FAILED';
  const lost = tally.lostInAll === 0 ? '0 lost' : `${tally.lostInAll} lost (${causes(tally.lost)})`;
  const sockets = isGuarded
    ? `; ${tally.reconnects} WebSockets told to go elsewhere, ${tally.lostSocketsInAll} lost${tally.lostSocketsInAll > 0 ? ` (${causes(tally.lostSockets)})` : ''}; ${tally.streamsMoved} endless responses ended with their last event, ${tally.lostStreamsInAll} lost${tally.lostStreamsInAll > 0 ? ` (${causes(tally.lostStreams)})` : ''}`
    : '';
  const repeated = tally.repeated > 0 ? `, ${tally.repeated} sent again` : '';
  console.log(
    `${verdict} ${host.title}, ${scheme}: ${tally.answered} requests, ${lost}${repeated}${sockets}`,
  );
  for (const { code, text } of unclean) console.log(`       ended with ${code}: ${text.trim()}`);
}

console.log(
  `${settings.restarts} restarts of ${settings.backends} servers, ${settings.clients} keep-alive clients, ${WEB_SOCKETS} WebSockets, ${STREAMS} endless responses; all traffic stays on this machine`,
);
try {
  for (const name of given.host) {
    const host = GUARDED[name];
    for (const scheme of host.schemes) await run(host, scheme, true);
  }
  for (const name of given.peers ? PEERS : [])
    await run(
      { title: name, command: NODE, file: 'rolling/servers/peer.mjs', args: [name] },
      'http',
      false,
    );
} finally {
  await killAll();
  rmSync(folder, { recursive: true });
}
const HEAD = [
  'server',
  'scheme',
  'requests',
  'lost',
  'lost after a long pause',
  'WebSockets lost',
  'WebSockets moved',
  'streams lost',
  'streams moved',
  'clean ends',
];
console.log(`\n| ${HEAD.join(' | ')} |\n|${'---|'.repeat(HEAD.length)}`);
for (const row of rows) console.log(`| ${row.join(' | ')} |`);
console.log(`\nrolling: ${guarded - failures} passed, ${failures} failed`);
process.exit(failures === 0 ? 0 : 1);
