// Measures a whole admission: from the handshake's headers to an open connection, and its release.
// Run: node bench/admission.mjs
import { randomBytes } from 'node:crypto';
import { createSigner } from 'fast-jwt';
import { Guard } from '../dist/guard/guard.js';
import { TimerManager, TokenVerifier } from '../dist/index.js';
import { compare, machine, timed } from './compare.mjs';
import { LIMITS, socket } from './population.mjs';

const host = {
  ping: () => undefined,
  buffered: () => 0,
  isPaused: () => false,
  arrived: () => undefined,
  publishes: false,
  waitsForAnswer: true,
};
const secret = randomBytes(32);
const sign = createSigner({ key: secret, algorithm: 'HS256', expiresIn: 3_600_000 });
const tokens = Array.from({ length: 1000 }, (_, at) => sign({ sub: `user-${at}` }));
const auth = new TokenVerifier({ algorithms: ['HS256'], keys: [{ secret }] });
const guardOf = (options) =>
  new Guard('bench', { limits: LIMITS, timers: new TimerManager(), ...options }, host);

const open = guardOf({});
const verified = guardOf({ auth });
const full = guardOf({ auth, limits: { maxConnectionsPerIp: 1 } });
full.admit('192.0.2.9', () => `Bearer ${tokens[0]}`, '/').open('only', socket);

const ADMISSIONS = 20_000;
const addressOf = (at) => `10.${(at >> 16) & 255}.${(at >> 8) & 255}.${at & 255}`;
let serial = 0;
/** Admits, opens and releases; each handshake has a fresh address and a token of a thousand. */
const cycle = (guard) => () =>
  timed(ADMISSIONS, () => {
    const at = serial++;
    const header = (name) => (name === 'authorization' ? `Bearer ${tokens[at % 1000]}` : '');
    const connection = guard.admit(addressOf(at), header, '/ws').open(`c${at}`, socket);
    guard.manager.release(connection);
  });
console.log(machine);
compare('an admission, its opening and its release', [
  ['without an identity', cycle(open)],
  ['with auth, HS256, cached', cycle(verified)],
]);
compare('a refusal at the limit of an address', [
  [
    'with auth',
    () =>
      timed(ADMISSIONS, () => {
        const at = serial++;
        const header = (name) => (name === 'authorization' ? `Bearer ${tokens[at % 1000]}` : '');
        full.admit('192.0.2.9', header, '/ws');
      }),
  ],
]);

// Addresses that are banned and others, in turn: a ban has to cost less than what it saves.
const banAfter = { failures: 10, maxAddresses: 10_000 };
const banned = Array.from({ length: 1000 }, (_, at) => `192.0.${at >> 8}.${at & 255}`);
const others = Array.from({ length: 1000 }, (_, at) => `10.0.${at >> 8}.${at & 255}`);
const banning = guardOf({ banAfter });
const banningTokens = guardOf({ banAfter, auth });
for (const address of banned)
  for (const guard of [banning, banningTokens]) guard.manager.ban(address);
const broken = `Bearer ${tokens[0].slice(0, -2)}xx`;
const header = (name) => (name === 'authorization' ? broken : '');
/** As `timed`, by the CPU time of the process. */
function spent(count, run) {
  const start = process.cpuUsage();
  for (let i = 0; i < count; i++) run(i);
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1e3) / count;
}
/** Judges handshakes of given addresses, and gives an admitted one's seat back. */
const judge = (guard, addresses) => () =>
  spent(ADMISSIONS, () => void guard.admit(addresses[serial++ % 1000], header, '/ws').end('reset'));
compare('a handshake while 1,000 addresses are banned, CPU time', [
  ['refused for its ban', judge(banning, banned)],
  ['refused for its ban, with auth', judge(banningTokens, banned)],
  ['admitted, without an identity, and given back', judge(banning, others)],
  ['the same without the option', judge(open, others)],
  ['refused for its token, without the option', judge(verified, others)],
]);
process.exit(0);
