/** Options of a cluster, checked. */
import { hostname } from 'node:os';
import { outOfRange, wrongType } from '../base/errors.js';
import { knownOptions, wholeNumber } from '../base/options.js';

/** Options of a `Cluster`. */
export interface ClusterOptions {
  /**
   * URL of the Redis or Valkey server: `redis://user:password@host:6379/0`, `valkey://host`, or `unix:///path`
   * for a Unix socket.
   */
  readonly url: string;
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
   * Whether `reserve` and `addConnection` throw `ERR_ASYNC_REQUIRED`. Otherwise they are optimistic: the limits of this
   * process decide at once, and a client that the cluster refuses afterwards is closed. Default `false`.
   */
  readonly strict?: boolean | undefined;
  /** Most admissions of one call: whole number from 1 to 1024. Default 256. */
  readonly batchMax?: number | undefined;
  /** Whether a server may be used that evicts keys, and with them seats. Default `false`. */
  readonly allowEviction?: boolean | undefined;
}

/** Options, complete. @internal */
export interface CheckedClusterOptions {
  readonly url: string;
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
  readonly allowEviction: boolean;
  readonly strict: boolean;
}

const OPTIONS = [
  'url',
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
  'allowEviction',
  'strict',
] as const;
const POLICIES = ['share', 'open', 'closed'] as const;
const URL_ALLOWED = 'a URL such as redis://host:6379, valkey://host or unix:///path';

function checkedUrl(url: unknown): string {
  if (typeof url !== 'string') throw wrongType('url', url, URL_ALLOWED);
  // The value is not told: a URL may hold a password.
  if (!/^(?:(?:redis|valkey):\/\/[^/?#]|unix:\/\/\/.)/.test(url) || url.length > 2048)
    throw outOfRange('url', '(not shown)', URL_ALLOWED);
  return url;
}

function checkedName(name: unknown): string {
  if (name === undefined) return hostname().slice(0, 128) || 'unknown';
  if (typeof name !== 'string')
    throw wrongType('nodeName', name, 'a string of 1 to 128 characters');
  if (name === '' || name.length > 128) throw outOfRange('nodeName', name, '1 to 128 characters');
  return name;
}

function text(field: 'username' | 'password', value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || value === '' || value.length > 1024)
    throw wrongType(
      field,
      field === 'password' ? undefined : value,
      'a string of 1 to 1024 characters',
    );
  return value;
}

/**
 * Checks the options of a cluster.
 * @throws ERR_INVALID_ARG_TYPE, ERR_OUT_OF_RANGE, ERR_UNKNOWN_OPTION, naming the field
 * @internal
 */
export function checkedCluster(options: ClusterOptions): CheckedClusterOptions {
  if (typeof options !== 'object' || options === null)
    throw wrongType('options', options, 'an object');
  knownOptions('Cluster', options, OPTIONS);
  const { prefix = 'pc', onUnreachable = 'share', allowEviction = false, strict = false } = options;
  const url = checkedUrl(options.url);
  if (typeof prefix !== 'string') throw wrongType('prefix', prefix, 'a string');
  if (!/^[a-z0-9-]{1,32}$/.test(prefix))
    throw outOfRange('prefix', prefix, '1 to 32 characters of [a-z0-9-]');
  const policy = POLICIES.indexOf(onUnreachable);
  if (policy === -1)
    throw outOfRange('onUnreachable', onUnreachable, "'share', 'open' or 'closed'");
  if (typeof allowEviction !== 'boolean')
    throw wrongType('allowEviction', allowEviction, 'a boolean');
  if (typeof strict !== 'boolean') throw wrongType('strict', strict, 'a boolean');
  const leaseMs = wholeNumber('leaseMs', options.leaseMs, 1000, 120_000, 6000);
  const tenth = Math.floor(leaseMs / 10);
  return {
    url,
    username: text('username', options.username),
    password: text('password', options.password),
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
    allowEviction,
    strict,
  };
}
