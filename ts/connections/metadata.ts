/** Further data on the client of a connection. */

/** Further data on a client. The sets are made on first use. */
export interface ConnectionMetadata {
  /** Address of the client. */
  readonly ip: string;
  /** `User-Agent` of the client; empty if there is none. */
  readonly userAgent: string;
  /** User of the connection, if there is one. */
  readonly userId?: string | undefined;
  /** Session of the client, as it was added. */
  readonly sessionId?: string | undefined;
  /** Rooms: yours to fill. */
  readonly rooms: Set<string>;
  /** Subscriptions: yours to fill. */
  readonly subscriptions: Set<string>;
  /** Data of your own: the very object that the connection was added with. */
  readonly customData: Record<string, unknown>;
}

/** Data on a client, given when its connection is added. */
export interface MetadataInput {
  /** `User-Agent` of the client; `null`, as `headers.get()` gives it, is none. */
  readonly userAgent?: string | null | undefined;
  /** Session of the client; `null` is none. */
  readonly sessionId?: string | null | undefined;
  /** Data of your own. */
  readonly customData?: Record<string, unknown> | undefined;
}

/** Metadata that a connection keeps until they are read: an object, or the user agent alone. @internal */
export type GivenMetadata = MetadataInput | string;

/** @internal */
export class Metadata implements ConnectionMetadata {
  readonly #connection: { readonly ip: string; readonly userId: string | undefined };
  readonly userAgent: string;
  readonly sessionId: string | undefined;
  readonly customData: Record<string, unknown>;
  #rooms: Set<string> | undefined;
  #subscriptions: Set<string> | undefined;

  constructor(
    connection: { readonly ip: string; readonly userId: string | undefined },
    given: GivenMetadata | undefined,
  ) {
    this.#connection = connection;
    const input = typeof given === 'string' ? { userAgent: given } : given;
    this.userAgent = input?.userAgent ?? '';
    this.sessionId = input?.sessionId ?? undefined;
    this.customData = input?.customData ?? {};
  }
  get ip(): string {
    return this.#connection.ip;
  }
  get userId(): string | undefined {
    return this.#connection.userId;
  }
  get rooms(): Set<string> {
    return (this.#rooms ??= new Set());
  }
  get subscriptions(): Set<string> {
    return (this.#subscriptions ??= new Set());
  }
}
