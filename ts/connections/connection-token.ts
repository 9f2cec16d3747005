/** The token of a connection, as its guard holds it. */
import type { Refusal } from './refusal.js';

/** Outcome of `refreshToken`. */
export type TokenRefresh<
  C extends Readonly<Record<string, unknown>> = Readonly<Record<string, unknown>>,
> =
  | { readonly success: true; readonly claims: C }
  | {
      readonly success: false;
      readonly error: Refusal | { readonly code: string; readonly reason: string };
    };

/** The token that a connection was admitted with, or the one that took its place. @internal */
export interface ConnectionToken {
  /** The claims, frozen when they are first read. */
  readonly claims: Readonly<Record<string, unknown>>;
  /** Puts another token in its place. */
  refresh(token: string): Promise<TokenRefresh>;
  /** Forgets a released connection. */
  released(): void;
}
