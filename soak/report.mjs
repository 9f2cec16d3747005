// Prints the progress and the result of each trial, and a table at the end.

const isTerminal = process.stdout.isTTY === true;
/** Time between two lines of progress. A terminal shows one line, which is written over. */
const PROGRESS_MS = isTerminal ? 200 : 10_000;

/** The results of all trials. */
export class Report {
  #rows = [];
  #failures = [];
  #beganMs = performance.now();

  /** Returns a function that prints the progress of a trial, now and then. */
  progressOf(name) {
    let shownMs = performance.now();
    return (progress) => {
      const now = performance.now();
      if (now - shownMs < PROGRESS_MS) return;
      shownMs = now;
      process.stdout.write(
        isTerminal ? `\r\u001b[K${name}, ${progress}` : `   … ${name}, ${progress}\n`,
      );
    };
  }

  /**
   * Prints and keeps the result of a trial.
   * @param result of `attempt`
   * @param command runs the trial again
   */
  add(name, round, { isGood, text, ms }, command) {
    if (isTerminal) process.stdout.write('\r\u001b[K');
    console.log(`${isGood ? 'ok  ' : 'FAIL'} ${name} (${(ms / 1000).toFixed(1)} s): ${text}`);
    this.#rows.push({ name, isGood, text, round });
    if (!isGood) this.#failures.push(command);
  }

  /**
   * Prints a table of all trials and the commands that repeat the failures; returns the number of
   * failures.
   */
  close(seed) {
    const rows = this.#rows;
    console.log('\n| host: trial | runs | failed | the last |\n| --- | --- | --- | --- |');
    for (const { name, text } of rows.filter(({ round }) => round === rows.at(-1).round)) {
      const all = rows.filter((row) => row.name === name);
      const failed = all.filter(({ isGood }) => !isGood);
      const line = text.split('\n')[0].slice(0, 200);
      console.log(`| ${name} | ${all.length} | ${failed.length} | ${line} |`);
    }
    const minutes = ((performance.now() - this.#beganMs) / 60_000).toFixed(1);
    const failures = this.#failures;
    console.log(
      `\n${rows.length} runs, ${failures.length} failed, ${minutes} minutes, seed ${seed}`,
    );
    for (const command of failures) console.log(`again: ${command}`);
    return failures.length;
  }
}
