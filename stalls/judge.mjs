// Compares the stalls that a monitor has reported with the blocks that the blocked code has timed.

const THRESHOLD_MS = 100;
/** A stall may be off by this, or by this share of its duration. */
const MOST_OFF_MS = 20;
const MOST_OFF_SHARE = 0.1;

const endOf = ({ startedAt, durationMs }) => startedAt + durationMs;

/** Returns the time that a stall and a block have in common. */
const overlap = (stall, { startedAt, wallMs }) =>
  Math.min(endOf(stall), startedAt + wallMs) - Math.max(stall.startedAt, startedAt);

/** Returns the stalls of each block: each stall belongs to the block that it covers most of. */
function stallsOf(blocks, stalls) {
  const found = blocks.map(() => []);
  for (const stall of stalls) {
    const times = blocks.map((block) => overlap(stall, block));
    const most = Math.max(...times);
    if (most > 0) found[times.indexOf(most)].push(stall);
  }
  return found;
}

/** True for a stall that the machine itself has made: the thread waited for a CPU. */
const isMachines = ({ cause }) => cause === 'starved' || cause === 'throttled';

/** Returns the expected cause of a block; `null` if the machine was too busy to tell. */
function causeOf({ causes }, at, block) {
  const cause = causes[Math.min(at, causes.length - 1)];
  if (cause !== 'by CPU time') return cause;
  return block.cpuMs >= block.ms / 2 ? 'busy' : null;
}

/**
 * Judges the result of a case.
 * @returns the row of the table: a line for each block that is long enough, and the problems
 */
export function judge(host, one, { failure, blocks, stalls, pauses, stolenMs }) {
  const row = { host, id: one.id, title: one.title, lines: [], problems: [], pauses, stolenMs };
  if (failure !== undefined) return { ...row, problems: [failure] };
  const all = stallsOf(blocks, stalls);
  const claimed = new Set(all.flat());
  for (const [at, block] of blocks.entries()) {
    const found = all[at];
    const isExpected = one.causes.length > 0 && block.ms >= THRESHOLD_MS;
    // A collection of about the threshold may or may not be one.
    const isOptional = block.ms < THRESHOLD_MS + MOST_OFF_MS && one.scene[0] === 'collect:0';
    if (isExpected && !(isOptional && found.length === 0))
      addBlock(row, at, block, found, causeOf(one, at, block));
    else if (!isOptional) for (const stall of found) claimed.delete(stall);
  }
  // The machine's host may take the CPU away during a short callback: a stall that no block has timed.
  const isStolen = ({ durationMs }) => durationMs - stolenMs < THRESHOLD_MS;
  const extra = stalls.filter(
    (stall) => !claimed.has(stall) && !isMachines(stall) && !isStolen(stall),
  );
  for (const stall of extra)
    row.problems.push(`a stall of ${ms(stall.durationMs)} (${stall.cause}) that was none`);
  return row;
}

/**
 * Returns the error of a reported duration. The loop is blocked for the time of the block at least, and at
 * most from the time at which its timer was due to the next turn of the loop.
 */
function errorOf(reported, block) {
  if (reported < block.ms) return reported - block.ms;
  return Math.max(0, reported - block.ms - block.aroundMs);
}

function addBlock({ lines, problems, stolenMs }, at, block, found, expected) {
  const reported = found.reduce((sum, stall) => sum + stall.durationMs, 0);
  const error = errorOf(reported, block);
  const causes = [...new Set(found.map(({ cause }) => cause))].join(', ');
  lines.push({
    trueMs: block.ms,
    reportedMs: found.length > 0 ? reported : null,
    error,
    expected: expected ?? 'any',
    causes,
    cpuMs: block.cpuMs,
  });
  if (found.length !== 1) problems.push(`block ${at + 1} counted ${found.length} times`);
  else if (Math.abs(error) > Math.max(MOST_OFF_MS, block.ms * MOST_OFF_SHARE) + stolenMs)
    problems.push(`block ${at + 1} of ${ms(block.ms)} reported as ${ms(reported)}`);
  // A machine that is short of CPUs adds waits, which the thread's own figures prove.
  if (found.length === 1 && expected !== null && causes !== expected && !isMachines(found[0]))
    problems.push(`block ${at + 1} is ${expected}, reported as ${causes}`);
}

const ms = (value) => `${Math.round(value)} ms`;

/** Returns the row as a line of the terminal. */
export function rowOf({ host, id, lines, problems, stolenMs }) {
  const text = lines.map(
    ({ trueMs, reportedMs, expected, causes, cpuMs }) =>
      `${ms(trueMs)} (${ms(cpuMs)} CPU) reported ${reportedMs === null ? 'not' : ms(reportedMs)}, ${expected}: ${causes}`,
  );
  const verdict = problems.length === 0 ? 'ok' : `WRONG: ${problems.join('; ')}`;
  const stolen = stolenMs > 0 ? `, ${ms(stolenMs)} stolen by the machine's host` : '';
  return `${host} ${id}: ${text.join(' | ') || 'no stall expected'}${stolen}: ${verdict}`;
}

/** Returns the table of the documentation. */
export function tableOf(rows) {
  const cells = ({ host, id, title, lines, problems }) => {
    const join = (read) => (lines.length === 0 ? '-' : lines.map(read).join(', '));
    return [
      host === 'node' ? 'Node' : 'Bun',
      `\`${id}\``,
      title,
      join(({ trueMs }) => Math.round(trueMs)),
      join(({ reportedMs }) => (reportedMs === null ? 'none' : Math.round(reportedMs))),
      join(({ reportedMs, error }) => (reportedMs === null ? '-' : Math.round(error))),
      join(({ expected }) => expected),
      join(({ causes }) => causes || 'none'),
      problems.length === 0 ? 'yes' : 'no',
    ];
  };
  return [
    '| host | case | block | true, ms | reported, ms | error, ms | cause | reported cause | right |',
    '| --- | --- | --- | --- | --- | --- | --- | --- | --- |',
    ...rows.map((row) => `| ${cells(row).join(' | ')} |`),
  ].join('\n');
}
