/** The trials by name. */
export const TRIALS: Readonly<Record<string, unknown>>;
/** Returns the names of the trials of a host. */
export function trialsOf(host: string): readonly string[];
