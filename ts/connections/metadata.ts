/** What else is known of a client. The sets are made on first use. */
export interface ConnectionMetadata {
  readonly ip: string;
  readonly userAgent: string;
  readonly userId?: string | undefined;
  readonly sessionId?: string | undefined;
  readonly rooms: Set<string>;
  readonly subscriptions: Set<string>;
  readonly customData: Record<string, unknown>;
}

/** What the caller may say of a client. */
export interface MetadataInput {
  readonly userAgent?: string;
  readonly sessionId?: string;
  readonly customData?: Record<string, unknown>;
}

export class Metadata implements ConnectionMetadata {
  readonly #connection: { readonly ip: string; readonly userId: string | undefined };
  readonly userAgent: string;
  readonly sessionId: string | undefined;
  readonly customData: Record<string, unknown>;
  #rooms: Set<string> | undefined;
  #subscriptions: Set<string> | undefined;

  constructor(
    connection: { readonly ip: string; readonly userId: string | undefined },
    given: MetadataInput | undefined,
  ) {
    this.#connection = connection;
    this.userAgent = given?.userAgent ?? '';
    this.sessionId = given?.sessionId;
    this.customData = given?.customData ?? {};
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
