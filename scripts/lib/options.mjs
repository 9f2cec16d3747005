// Reads the options of a command, checks them, and names every mistake in a sentence.
import { parseArgs } from 'node:util';
import { fail } from './project.mjs';

/** A mistake in a command's arguments; the message is a sentence. */
class UsageError extends Error {}

/**
 * Returns Levenshtein's distance. A second copy beside `ts/`: commands read their
 * options before `ts/` is compiled.
 */
function distance(from, to) {
  let row = Array.from({ length: to.length + 1 }, (_, at) => at);
  for (let i = 1; i <= from.length; i++) {
    const next = [i];
    for (let j = 1; j <= to.length; j++)
      next[j] = Math.min(
        next[j - 1] + 1,
        row[j] + 1,
        row[j - 1] + (from[i - 1] === to[j - 1] ? 0 : 1),
      );
    row = next;
  }
  return row[to.length];
}

/** Names the option that an unknown one was most likely meant to be, or all of them. */
function hintFor(unknown, names) {
  if (names.length === 0) return 'there are no options besides --help.';
  if (names.length === 1) return `the only option is --${names[0]}.`;
  const [nearest] = [...names, 'help'].toSorted(
    (a, b) => distance(unknown, a) - distance(unknown, b),
  );
  return distance(unknown, nearest) <= 3
    ? `did you mean --${nearest}?`
    : `the options are ${names.map((name) => `--${name}`).join(', ')}.`;
}

function parsed(args, options) {
  const known = Object.entries(options).map(([name, { type, multiple = false }]) => [
    name,
    { type: type === 'boolean' ? type : 'string', multiple },
  ]);
  try {
    return parseArgs({
      args,
      options: { ...Object.fromEntries(known), help: { type: 'boolean' } },
    }).values;
  } catch (error) {
    // The first sentence of Node.js; the others explain how to escape an argument.
    const sentence = error.message.split(/\.?(?: |\n)(?=[A-Z])/)[0];
    const unknown = /^Unknown option '-*([^']*)'$/.exec(sentence);
    throw new UsageError(
      unknown === null
        ? `${sentence}.`
        : `${sentence}: ${hintFor(unknown[1], Object.keys(options))}`,
    );
  }
}

function numberOf(name, text, { type, least, above, most }) {
  const number = Number(text);
  const isInRange = text.trim() !== '' && number <= most && (above === undefined || number > above);
  if (type === 'number' && isInRange) return number;
  if (type === 'integer' && isInRange && /^\d+$/.test(text) && number >= least) return number;
  const wanted =
    type === 'integer'
      ? `a whole number from ${least} to ${most}`
      : `a number above ${above}, up to ${most}`;
  throw new UsageError(`--${name} must be ${wanted}, not "${text}".`);
}

function wordOf(name, text, { of, multiple }) {
  if (text === '') throw new UsageError(`--${name} must not be empty.`);
  if (of === undefined || of.includes(text)) return text;
  const words = multiple
    ? `one of ${of.join(', ')}`
    : of.join(', ').replace(/, (?=[^,]*$)/, ' or ');
  throw new UsageError(`--${name} must be ${words}, not "${text}".`);
}

function valueOf(name, given, option) {
  if (given === undefined) return option.default;
  switch (option.type) {
    case 'boolean':
      return given;
    case 'integer':
    case 'number':
      return numberOf(name, given, option);
    case 'list':
      return [...new Set(given.split(','))].map((text) => wordOf(name, text, option));
    default:
      return option.multiple === true
        ? given.map((text) => wordOf(name, text, option))
        : wordOf(name, given, option);
  }
}

/**
 * Reads the arguments of this process. `--help` prints the usage; a mistake is printed above the
 * usage. Both end the process.
 *
 * Types of options, each with an optional `default`:
 * - `{ type: 'boolean' }`
 * - `{ type: 'integer', least, most }`
 * - `{ type: 'number', above, most }`
 * - `{ type: 'string', of, multiple }`: one of the words `of`, if given; `multiple` returns a list
 * - `{ type: 'list', of }`: words separated by commas
 * @param usage the command and a line for each option
 * @param options the options by name
 * @param exitCode the exit code after a mistake
 * @returns the values by name; `undefined` for an option without a value and without a default
 */
export function readOptions(usage, options, exitCode = 1) {
  try {
    const given = parsed(process.argv.slice(2), options);
    if (given.help) {
      console.log(usage);
      process.exit(0);
    }
    return Object.fromEntries(
      Object.entries(options).map(([name, option]) => [name, valueOf(name, given[name], option)]),
    );
  } catch (error) {
    if (error instanceof UsageError) return fail(`${error.message}\n\n${usage}`, exitCode);
    throw error;
  }
}
