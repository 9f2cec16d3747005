// The least that a guard of connects with limits and tokens can do: it verifies the token, and counts the
// client's address and user until its socket has closed. It has no rates, bans, metrics, monitor, page,
// timeouts, ids or traces, and forgets nothing that it could do later. What it costs beyond a bare server is the floor of
// every guard that is called from JavaScript.
import { TokenVerifier } from '../dist/index.js';
import { AUDIENCE, ISSUER, SECRET } from './settings.mjs';

/** Takes a seat of `key`; `false` if it has all of them. */
function take(counts, key, most) {
  const count = counts.get(key) ?? 0;
  if (count >= most) return false;
  counts.set(key, count + 1);
  return true;
}

function giveBack(counts, key) {
  const count = counts.get(key);
  if (count === 1) counts.delete(key);
  else counts.set(key, count - 1);
}

/** Counts the clients of one server. */
export class LeastGuard {
  #limits;
  #total = 0;
  #byIp = new Map();
  #byUser = new Map();
  /** The fastest verifier of `bench/tokens.mjs`, without a guard around it. */
  #verifier = new TokenVerifier({
    algorithms: ['HS256'],
    keys: { secret: SECRET },
    issuer: ISSUER,
    audience: AUDIENCE,
  });

  constructor(limits) {
    this.#limits = limits;
  }

  seats() {
    return this.#total;
  }

  /**
   * Admits a client.
   * @returns its seat, or the status that refuses it
   */
  admit(ip, authorization = '') {
    const result = this.#verifier.safeVerify(authorization.slice('Bearer '.length));
    if (!result.success) return 401;
    const { sub } = result.claims;
    const { total, perIp, perUser } = this.#limits;
    if (this.#total >= total || !take(this.#byIp, ip, perIp)) return 429;
    if (!take(this.#byUser, sub, perUser)) {
      giveBack(this.#byIp, ip);
      return 429;
    }
    this.#total++;
    return { ip, sub };
  }

  leave({ ip, sub }) {
    this.#total--;
    giveBack(this.#byIp, ip);
    giveBack(this.#byUser, sub);
  }
}
