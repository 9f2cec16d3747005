/** The share of one manager name in a cluster: answers to clients, requests, and news. */
import { PortcullisError } from '../base/errors.js';
import type { Hooks } from '../base/hooks.js';
import type { ClusterFigures, ClusterMail, NativeCluster } from '../native/addon.js';
import { TimerManager } from '../timers/manager.js';
import { CONFLICT, FULL, LEFT, REPLACED, UNREACHABLE } from './codes.js';

/** Kinds of requests, in the order of the core's numbers. */
const KINDS = [
  'kick',
  'who',
  'nodes',
  'drain',
  'limits',
  'revoke',
  'revocations',
  'take',
  'online',
] as const;
type RequestKind = (typeof KINDS)[number];

/** Outcome of a request. @internal */
export interface Outcome {
  /** 0, or a code of the core. */
  readonly code: number;
  readonly parts: readonly string[];
}

/**
 * News of a member: its kind, and its data. Kinds: `limits` (revision, 11 numbers), `joined`, `gap`, `drift` (count),
 * `over` (connections, users), and the events `k` (kick), `v` (revocations), `j`, `l`, `d` (a process joined, left,
 * was declared dead).
 * @internal
 */
export type NewsListener = (kind: string, data: readonly string[]) => void;

/** Returns the error of an outcome that is not 0. @internal */
export function outcomeError({ code, parts }: Outcome, action: string): PortcullisError {
  if (code === LEFT) return new PortcullisError('ERR_CLOSED', `the cluster is closed: ${action}`);
  if (code === CONFLICT)
    return new PortcullisError(
      'ERR_LIMITS_CONFLICT',
      'another process has changed the limits at the same time: its limits are in force',
      { field: 'limits' },
    );
  if (code === FULL)
    return new PortcullisError('ERR_TOO_MANY_REVOCATIONS', 'no more revocations can be held', {
      field: 'maxRevocations',
    });
  const detail = parts[0] === undefined ? '' : `: ${parts[0]}`;
  return new PortcullisError(
    'ERR_CLUSTER_UNREACHABLE',
    `the cluster's server does not answer: ${action}${detail}`,
  );
}

/** The share of one manager name in a cluster. @internal */
export class Membership {
  readonly #waiting = new Map<number, (code: number) => void>();
  readonly #requests = new Map<number, (outcome: Outcome) => void>();
  readonly #listeners = new Set<NewsListener>();
  readonly #replacing = new Set<(ticket: number) => void>();
  readonly #native: NativeCluster;
  readonly #hooks: Hooks;
  readonly #hold: (isHeld: boolean) => void;
  /** Revision of the limits that the listeners have heard of: a change must not be based on others. */
  #revision: number;
  #changes: Promise<void> = Promise.resolve();
  /** Changes that wait for their revision of the limits. */
  readonly #awaiting = new Set<(limits: readonly number[]) => void>();
  #failure: PortcullisError | undefined;

  /**
   * @param id number of the member, for the core's table
   * @param limits its limits as declared and its `onFull`, as a text
   */
  constructor(
    readonly id: number,
    readonly name: string,
    readonly limits: string,
    readonly admitTimeoutMs: number,
    readonly leaseMs: number,
    native: NativeCluster,
    hooks: Hooks,
    hold: (isHeld: boolean) => void,
  ) {
    this.#native = native;
    this.#hooks = hooks;
    this.#hold = hold;
    this.#revision = this.figures()?.revision ?? 0;
  }

  /** The figures; `undefined` once the cluster is closed. */
  figures(): ClusterFigures | undefined {
    return this.#native.figures(this.id) ?? undefined;
  }

  /** Waits for the answer to a ticket. */
  answer(ticket: number): Promise<number> {
    return new Promise((resolve) => {
      this.#change(() => this.#waiting.set(ticket, resolve));
    });
  }

  /** Takes an answer. */
  answered(ticket: number, code: number): void {
    if (code === REPLACED) {
      for (const listener of this.#replacing)
        this.#hooks.run('clusterNews', () => listener(ticket));
      return;
    }
    const resolve = this.#waiting.get(ticket);
    if (resolve === undefined) return;
    this.#change(() => this.#waiting.delete(ticket));
    resolve(code);
  }

  /** Adds or removes one that waits: the process stays alive for it. */
  #change(act: () => unknown): void {
    const count = (): number => this.#waiting.size + this.#requests.size + this.#awaiting.size;
    const before = count();
    act();
    const after = count();
    if ((before === 0) !== (after === 0)) this.#hold(after > 0);
  }

  /** Makes a request; never rejects. */
  request(
    kind: RequestKind,
    name: string,
    texts: string[] = [],
    numbers: number[] = [],
  ): Promise<Outcome> {
    const ticket = this.#native.request(this.id, KINDS.indexOf(kind), name, texts, numbers);
    if (ticket === 0) return Promise.resolve({ code: LEFT, parts: [] });
    return new Promise((resolve) => {
      this.#change(() => this.#requests.set(ticket, resolve));
    });
  }

  /** Makes a request; returns the parts of its outcome. @throws ERR_CLUSTER_UNREACHABLE and others, as rejections */
  async ask(
    action: string,
    kind: RequestKind,
    name: string,
    texts: string[] = [],
    numbers: number[] = [],
  ): Promise<readonly string[]> {
    const outcome = await this.request(kind, name, texts, numbers);
    if (outcome.code !== 0) throw outcomeError(outcome, action);
    return outcome.parts;
  }

  /** Takes mail. */
  mailed(mail: ClusterMail): void {
    if (mail.ticket !== 0) {
      const resolve = this.#requests.get(mail.ticket);
      if (resolve === undefined) return;
      this.#change(() => this.#requests.delete(mail.ticket));
      resolve(mail);
      return;
    }
    const [kind = '', ...data] = mail.parts;
    for (const listener of this.#listeners)
      this.#hooks.run('clusterNews', () => listener(kind, data));
    if (kind === 'limits') this.#heard(Number(data[0]), data.slice(1).map(Number));
  }

  #heard(revision: number, limits: readonly number[]): void {
    this.#revision = revision;
    for (const look of this.#awaiting) look(limits);
  }

  /** Calls `listener` with all news; returns a function that removes it. */
  onNews(listener: NewsListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Calls `listener` with the ticket of each seat that a newcomer replaces; returns a function that removes it. */
  onReplaced(listener: (ticket: number) => void): () => void {
    this.#replacing.add(listener);
    return () => void this.#replacing.delete(listener);
  }

  /**
   * Replaces the limits in force, after the changes before it.
   * @param numbers returns the 11 limits when it is their turn
   */
  changeLimits(numbers: () => number[]): void {
    const change = async (): Promise<void> => {
      const limits = numbers();
      const outcome = await this.request('limits', '', [], [this.#revision, ...limits]);
      if (outcome.code === UNREACHABLE)
        throw outcomeError(outcome, 'it is unknown whether the limits have changed');
      if (outcome.code !== 0) throw outcomeError(outcome, 'the limits are as they were');
      const changed = Number(outcome.parts[0]);
      if (this.#revision < changed) await this.#inForce(changed, limits);
    };
    this.#changes = this.#changes.then(change).catch((error: unknown) => {
      this.#failure ??= error as PortcullisError;
    });
  }

  /**
   * Waits until a change that the server has taken is in force here: with the next beat, which the event has brought
   * forward.
   * @throws ERR_CLUSTER_UNREACHABLE if no beat has told of it for a lease: a server that is lost may have lost it, too;
   * ERR_LIMITS_CONFLICT if another change has come in its place after such a loss. As rejections
   */
  #inForce(changed: number, wanted: readonly number[]): Promise<void> {
    return new Promise((resolve, reject) => {
      const timers = new TimerManager({ name: 'cluster.limits' });
      const end = (settle: () => void): void => {
        timers.close();
        this.#change(() => this.#awaiting.delete(look));
        settle();
      };
      const look = (limits: readonly number[]): void => {
        if (this.#revision < changed) return;
        const isOther = this.#revision === changed && limits.join() !== wanted.join();
        const action = 'the change is not in force here';
        end(isOther ? () => reject(outcomeError({ code: CONFLICT, parts: [] }, action)) : resolve);
      };
      this.#change(() => this.#awaiting.add(look));
      timers.setInterval(() => {
        // A busy loop is late: the news is on its way.
        if ((this.figures()?.revision ?? 0) >= changed) return;
        const lost = { code: UNREACHABLE, parts: [] };
        end(() => reject(outcomeError(lost, 'it is unknown whether the limits have changed')));
      }, this.leaseMs);
    });
  }

  /** Waits for all changes of limits. @throws the first that has failed since the last call, as a rejection */
  async settled(): Promise<void> {
    await this.#changes;
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Answers everybody who waits. */
  close(): void {
    for (const ticket of this.#waiting.keys()) this.answered(ticket, LEFT);
    for (const ticket of this.#requests.keys())
      this.mailed({ member: this.id, ticket, code: LEFT, parts: [] });
    this.#heard(Infinity, []);
  }
}
