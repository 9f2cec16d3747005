/** What is tried, by name. */
export const TRIALS: Readonly<Record<string, unknown>>;
/** What is tried on a host. */
export function trialsOf(host: string): readonly string[];
