// The descriptors of a process, as Linux lists them.
import { readdirSync, readlinkSync } from 'node:fs';

/**
 * Returns the number of sockets and of all descriptors that a process has open; NaN on systems
 * without `/proc`.
 */
export function descriptorsOf(pid) {
  if (process.platform !== 'linux') return { sockets: Number.NaN, descriptors: Number.NaN };
  const folder = `/proc/${pid}/fd`;
  const targets = readdirSync(folder).flatMap((name) => {
    try {
      return [readlinkSync(`${folder}/${name}`)];
    } catch {
      // Closed in the meantime.
      return [];
    }
  });
  return {
    sockets: targets.filter((target) => target.startsWith('socket:')).length,
    descriptors: targets.length,
  };
}
