/** Options of a cluster, checked. */
import { hostname } from 'node:os';
import { outOfRange, PortcullisError, wrongSecretType, wrongType } from '../base/errors.js';
import { knownOptions, optionsObject, readOptions, wholeNumber } from '../base/options.js';

/** TLS to the servers of a cluster. Texts are PEM. */
export interface ClusterTlsOptions {
  /**
   * Certificates of the authorities that are trusted: 1 to 1048576 characters. Default: those of the operating
   * system.
   */
  readonly ca?: string | undefined;
  /** Certificate of this client, if the server asks for one: 1 to 1048576 characters. Default: none. */
  readonly cert?: string | undefined;
  /** Private key of `cert`: 1 to 1048576 characters. Default: none. */
  readonly key?: string | undefined;
  /** Name that the server's certificate has to carry: 1 to 255 characters. Default: the host of the URL. */
  readonly serverName?: string | undefined;
}

/** Options of a `Cluster`. */
export interface ClusterOptions {
  /**
   * URL of the Redis or Valkey server: `redis://user:password@host:6379/0`, `valkey://host`, `rediss://host` for
   * TLS, or `unix:///path?user=user&pass=password&db=0` for a Unix socket. Other parameters are `ERR_CLUSTER_CONFIG`.
   * Either `url` or `urls` is required. Default: none.
   */
  readonly url?: string | undefined;
  /**
   * URLs of one scheme, 1 to 16: of some nodes of a Redis Cluster, or with `sentinelMaster` of the Sentinels. Used in
   * their order. Default: `url`.
   */
  readonly urls?: readonly string[] | undefined;
  /**
   * Name of the primary that the Sentinels watch, whose URLs are in `urls`: 1 to 255 characters. A user and a
   * password in these URLs are for the Sentinels; `username` and `password` are for the primary, of which database 0
   * is used. Default: none.
   */
  readonly sentinelMaster?: string | undefined;
  /** TLS, for URLs of the scheme `rediss:`. Default: the authorities of the operating system. */
  readonly tls?: ClusterTlsOptions | undefined;
  /** User name, if the URL has none: 1 to 1024 characters. Default: none. */
  readonly username?: string | undefined;
  /** Password, if the URL has none: 1 to 1024 characters. Default: none. */
  readonly password?: string | undefined;
  /** Prefix of all keys: 1 to 32 characters of `[a-z0-9-]`. Default `pc`. */
  readonly prefix?: string | undefined;
  /** Name of this process in `nodes()`, for people: 1 to 128 characters. Default: the host's name. */
  readonly nodeName?: string | undefined;
  /**
   * Time without a beat after which a process counts as dead and its seats are free: 1000 to 120000 ms. All
   * processes need the same. Default 6000.
   */
  readonly leaseMs?: number | undefined;
  /** Interval of beats, ms: 100 to a third of `leaseMs`. Default: a fifth of `leaseMs`. */
  readonly beatMs?: number | undefined;
  /**
   * Longest wait of a client for the server's answer, ms: 10 to a tenth of `leaseMs`. Then `onUnreachable`
   * decides. Default 250, or a tenth of `leaseMs` if that is less.
   */
  readonly admitTimeoutMs?: number | undefined;
  /** Timeout for a connection to the server: 50 to 30000 ms. Default 1000. */
  readonly connectTimeoutMs?: number | undefined;
  /**
   * Action for newcomers while the server cannot be asked, or while other processes may still have to tell
   * what they hold. `share`: each process has its share of every limit, at least 1; it refuses if it does not
   * know how many processes there are. `open`: each process has the whole of every limit. `closed`: all are
   * refused with `cluster_unreachable`. Default `share`.
   */
  readonly onUnreachable?: 'share' | 'open' | 'closed' | undefined;
  /**
   * Processes that are expected at least, for `share`: whole number from 0 to 4096. Default 0: as many as were
   * seen last.
   */
  readonly expectedMembers?: number | undefined;
  /**
   * Revision of the limits: whole number from 0 to 2^31 - 1. The limits of the highest revision are in force on
   * all processes, so that a rolling deployment changes them once. Default 0.
   */
  readonly limitsRevision?: number | undefined;
  /**
   * Whether `reserve`, `addConnection` and `bindUser` throw `ERR_ASYNC_REQUIRED`. Otherwise they are optimistic: the limits of this
   * process decide at once, and a client that the cluster refuses afterwards is closed. Default `false`.
   */
  readonly strict?: boolean | undefined;
  /** Most admissions of one call: whole number from 1 to 1024. Default 256. */
  readonly batchMax?: number | undefined;
  /**
   * Time for which a key that the cluster has refused is refused in this process without asking again, ms: 0 to
   * 5000. It ends early when a seat of the key is given back here. Default 100.
   */
  readonly rejectCacheMs?: number | undefined;
  /**
   * Longest time from a seat that is given back to the call that tells it, ms: 0 to 1000. Admissions take it along
   * before. Default 20.
   */
  readonly releaseDelayMs?: number | undefined;
  /**
   * Seats of `maxTotalConnections` that this process holds ahead: whole number from 0 to 1000. Used where the total is
   * the only limit: most admissions then wait for no answer. Up to this many seats of each process may stay unused
   * while others are refused. Default 0.
   */
  readonly leaseTotal?: number | undefined;
  /**
   * Names on the server. `counts`: only hashes of users are stored. `names`: the names of connected users are stored in
   * clear, too, some 20 bytes each and their length, so that `online()` can list them; all processes need the same.
   * Default `counts`.
   */
  readonly presence?: 'counts' | 'names' | undefined;
  /** Whether a server may be used that evicts keys, and with them seats. Default `false`. */
  readonly allowEviction?: boolean | undefined;
}

/** Options of which those that were `undefined` are absent. */
type Defined<T> = { [K in keyof T as undefined extends T[K] ? never : K]: T[K] } & {
  [K in keyof T as undefined extends T[K] ? K : never]?: Exclude<T[K], undefined>;
};

/** Leaves out options that are `undefined`: an optional field of the core is absent. @internal */
export function withoutUndefined<T extends object>(options: T): Defined<T> {
  const entries = Object.entries(options) as [string, unknown][];
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as Defined<T>;
}

/** Options, complete. @internal */
export interface CheckedClusterOptions {
  readonly urls: readonly string[];
  readonly sentinelMaster: string | undefined;
  /** `undefined` for URLs without TLS. */
  readonly tls: Defined<ClusterTlsOptions> | undefined;
  readonly username: string | undefined;
  readonly password: string | undefined;
  readonly prefix: string;
  readonly nodeName: string;
  readonly leaseMs: number;
  readonly beatMs: number;
  readonly admitTimeoutMs: number;
  readonly connectTimeoutMs: number;
  readonly policy: number;
  readonly expectedMembers: number;
  readonly limitsRevision: number;
  readonly batchMax: number;
  readonly rejectCacheMs: number;
  readonly releaseDelayMs: number;
  readonly leaseTotal: number;
  readonly keepsNames: boolean;
  readonly allowEviction: boolean;
  readonly strict: boolean;
}

const OPTIONS = [
  'url',
  'urls',
  'sentinelMaster',
  'tls',
  'username',
  'password',
  'prefix',
  'nodeName',
  'leaseMs',
  'beatMs',
  'admitTimeoutMs',
  'connectTimeoutMs',
  'onUnreachable',
  'expectedMembers',
  'limitsRevision',
  'batchMax',
  'rejectCacheMs',
  'releaseDelayMs',
  'leaseTotal',
  'presence',
  'allowEviction',
  'strict',
] as const;
const PRESENCE = ['counts', 'names'] as const;
const POLICIES = ['share', 'open', 'closed'] as const;
const TLS_OPTIONS = ['ca', 'cert', 'key', 'serverName'] as const;
const URL_ALLOWED =
  'a URL that begins with redis://, rediss://, valkey:// or unix://, such as redis://host:6379';
const SCHEMES_ALLOWED = 'URLs of one scheme, or one unix:// URL alone';
const SCHEME = /^[a-z][a-z\d+.-]{0,15}:\/\//i;
const URLS_MAX = 16;
const URL_FORM = /^(?:(redis|valkey|rediss):\/\/[^/?#]|(unix):\/\/\/.)/;
const PEM_MAX = 2 ** 20;
/** Parameters of a URL of a Unix socket. */
const UNIX_PARAMETERS: readonly string[] = ['user', 'pass', 'db'];
const DATABASE_MAX = 2 ** 31 - 1;

/**
 * Checks the server, the database and the parameters of a URL, which the core would refuse without naming the part at
 * fault, or leave unused.
 * @param isSentinel a Sentinel has no databases
 * @throws ERR_CLUSTER_CONFIG
 */
function checkServer(field: string, url: string, isUnix: boolean, isSentinel: boolean): void {
  const wrong = (allowed: string): PortcullisError => {
    const value = `${SCHEME.exec(url)?.[0] ?? ''}(not shown)`;
    const message = `${field} must be ${allowed}, got "${value}"`;
    return new PortcullisError('ERR_CLUSTER_CONFIG', message, { field, value, allowed });
  };
  let parsed: URL;
  const server = 'a URL with a valid host, and a port of 1 to 65535 if it has one';
  try {
    parsed = new URL(url);
  } catch {
    throw wrong(server);
  }
  // No server can listen on port 0.
  if (parsed.port === '0') throw wrong(server);
  const names = [...parsed.searchParams.keys()];
  const known = isUnix ? UNIX_PARAMETERS : [];
  if (
    parsed.hash !== '' ||
    names.some((name, at) => !known.includes(name) || names.indexOf(name) < at)
  )
    throw wrong(
      isUnix
        ? 'a URL without a fragment and without other parameters than user, pass and db, each once'
        : 'a URL without parameters and without a fragment',
    );
  const database = isUnix ? parsed.searchParams.get('db') : parsed.pathname.replace(/^\//, '');
  if (
    !/^\d*$/.test(database ?? '') ||
    Number(database) > DATABASE_MAX ||
    (isUnix && database === '')
  )
    throw wrong(
      `a URL with the number of a database, 0 to ${DATABASE_MAX}, as its ${isUnix ? 'parameter db' : 'path'}, or without it`,
    );
  if (isSentinel && Number(database) > 0)
    throw wrong('a URL without the number of a database, since a Sentinel has none');
}

/** Returns the URLs, and whether they ask for TLS. Of a value only the scheme is told: a URL may hold a password. */
function checkedUrls(options: ClusterOptions): { urls: readonly string[]; isTls: boolean } {
  const { url, urls } = options;
  if (urls !== undefined && url !== undefined)
    throw outOfRange('urls', '(not shown)', 'either `url` or `urls`');
  if (urls !== undefined && !Array.isArray(urls))
    throw wrongSecretType('urls', urls, 'an array of URLs');
  const field = urls === undefined ? 'url' : 'urls';
  const all: readonly unknown[] = urls ?? [url];
  if (all.length === 0 || all.length > URLS_MAX)
    throw outOfRange('urls', all.length, `1 to ${URLS_MAX} URLs`);
  const schemes = new Set<string | undefined>();
  const checked = all.map((one) => {
    if (typeof one !== 'string') throw wrongSecretType(field, one, URL_ALLOWED);
    const form = URL_FORM.exec(one);
    if (one.length > 2048) throw outOfRange(field, '(not shown)', 'at most 2048 characters');
    if (form === null)
      throw outOfRange(field, `${SCHEME.exec(one)?.[0] ?? ''}(not shown)`, URL_ALLOWED);
    checkServer(field, one, form[2] !== undefined, options.sentinelMaster !== undefined);
    schemes.add(form[1] ?? form[2]);
    return one;
  });
  if (schemes.size > 1 || (checked.length > 1 && schemes.has('unix')))
    throw outOfRange('urls', '(not shown)', SCHEMES_ALLOWED);
  return { urls: checked, isTls: schemes.has('rediss') };
}

function checkedName(name: unknown): string {
  if (name === undefined) return hostname().slice(0, 128) || 'unknown';
  if (typeof name !== 'string')
    throw wrongType('nodeName', name, 'a string of 1 to 128 characters');
  if (name === '' || name.length > 128) throw outOfRange('nodeName', name, '1 to 128 characters');
  return name;
}

function text(field: string, value: unknown, most = 1024, isSecret = false): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value === '' || value.length > most)
    throw (isSecret ? wrongSecretType : wrongType)(
      field,
      value,
      `a string of 1 to ${most} characters`,
    );
  return value;
}

function checkedTls(
  tls: ClusterTlsOptions | undefined,
  isTls: boolean,
): Defined<ClusterTlsOptions> | undefined {
  if (tls === undefined) return isTls ? {} : undefined;
  optionsObject('tls', tls);
  knownOptions('tls', tls, TLS_OPTIONS, 'tls.');
  if (!isTls)
    throw new PortcullisError('ERR_CLUSTER_CONFIG', 'tls needs URLs of the scheme rediss:', {
      field: 'tls',
    });
  const checked = {
    ca: text('tls.ca', tls.ca, PEM_MAX, true),
    cert: text('tls.cert', tls.cert, PEM_MAX, true),
    key: text('tls.key', tls.key, PEM_MAX, true),
    serverName: text('tls.serverName', tls.serverName, 255),
  };
  if ((checked.cert === undefined) !== (checked.key === undefined))
    throw new PortcullisError('ERR_CLUSTER_CONFIG', 'tls.cert and tls.key need each other', {
      field: 'tls',
    });
  return withoutUndefined(checked);
}

/**
 * Checks the options of a cluster.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, ERR_CLUSTER_CONFIG, naming the field
 * @internal
 */
export function checkedCluster(given: ClusterOptions): CheckedClusterOptions {
  optionsObject('options', given);
  const options = readOptions('Cluster', given, OPTIONS);
  const { prefix = 'pc', onUnreachable = 'share', allowEviction = false, strict = false } = options;
  const { urls, isTls } = checkedUrls(options);
  if (typeof prefix !== 'string') throw wrongType('prefix', prefix, 'a string');
  if (!/^[a-z0-9-]{1,32}$/.test(prefix))
    throw outOfRange('prefix', prefix, '1 to 32 characters of [a-z0-9-]');
  const policy = POLICIES.indexOf(onUnreachable);
  if (policy === -1)
    throw outOfRange('onUnreachable', onUnreachable, "'share', 'open' or 'closed'");
  if (typeof allowEviction !== 'boolean')
    throw wrongType('allowEviction', allowEviction, 'a boolean');
  if (typeof strict !== 'boolean') throw wrongType('strict', strict, 'a boolean');
  const { presence = 'counts' } = options;
  if (!PRESENCE.includes(presence)) throw outOfRange('presence', presence, "'counts' or 'names'");
  const leaseMs = wholeNumber('leaseMs', options.leaseMs, 1000, 120_000, 6000);
  const tenth = Math.floor(leaseMs / 10);
  return {
    urls,
    sentinelMaster: text('sentinelMaster', options.sentinelMaster, 255),
    tls: checkedTls(options.tls, isTls),
    username: text('username', options.username),
    password: text('password', options.password, 1024, true),
    prefix,
    nodeName: checkedName(options.nodeName),
    leaseMs,
    beatMs: wholeNumber(
      'beatMs',
      options.beatMs,
      100,
      Math.floor(leaseMs / 3),
      Math.floor(leaseMs / 5),
    ),
    admitTimeoutMs: wholeNumber(
      'admitTimeoutMs',
      options.admitTimeoutMs,
      10,
      tenth,
      Math.min(250, tenth),
    ),
    connectTimeoutMs: wholeNumber('connectTimeoutMs', options.connectTimeoutMs, 50, 30_000, 1000),
    policy,
    expectedMembers: wholeNumber('expectedMembers', options.expectedMembers, 0, 4096, 0),
    limitsRevision: wholeNumber('limitsRevision', options.limitsRevision, 0, 2 ** 31 - 1, 0),
    batchMax: wholeNumber('batchMax', options.batchMax, 1, 1024, 256),
    rejectCacheMs: wholeNumber('rejectCacheMs', options.rejectCacheMs, 0, 5000, 100),
    releaseDelayMs: wholeNumber('releaseDelayMs', options.releaseDelayMs, 0, 1000, 20),
    leaseTotal: wholeNumber('leaseTotal', options.leaseTotal, 0, 1000, 0),
    keepsNames: presence === 'names',
    allowEviction,
    strict,
  };
}
