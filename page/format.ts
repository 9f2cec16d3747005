/** Formats numbers and times for an operator. */

export type Figure = number | null | undefined;

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat('en', { maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat('en', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  hourCycle: 'h23',
});

export const NONE = '–';

/** Formats a number with some three digits; counts of up to six digits in full. */
export function number(value: Figure): string {
  if (value === null || value === undefined) return NONE;
  const size = Math.abs(value);
  if (size >= 1e6) return `${one.format(value / 1e6)} M`;
  if (size >= 100 || Number.isInteger(value)) return whole.format(value);
  return size >= 10 ? one.format(value) : two.format(value);
}

export function percent(value: Figure): string {
  return value === null || value === undefined ? NONE : `${number(value)} %`;
}

export function milliseconds(value: Figure): string {
  if (value === null || value === undefined) return NONE;
  return value >= 10_000 ? `${number(value / 1000)} s` : `${number(value)} ms`;
}

export function megabytes(value: Figure): string {
  if (value === null || value === undefined) return NONE;
  return value >= 10_240 ? `${number(value / 1024)} GB` : `${number(value)} MB`;
}

export function bytes(value: Figure): string {
  if (value === null || value === undefined) return NONE;
  if (value < 1000) return `${number(value)} B`;
  return value < 1e6 ? `${number(value / 1000)} kB` : `${number(value / 1e6)} MB`;
}

export function time(at: number): string {
  return clock.format(at);
}

/** Formats a time on an axis: without seconds where the axis spans more than five minutes. */
export function axisTime(at: number, spanS: number): string {
  return time(at).slice(0, spanS > 300 ? 5 : 8);
}

export function duration(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  const [days, hours, minutes] = [
    Math.floor(seconds / 86_400),
    Math.floor(seconds / 3600) % 24,
    Math.floor(seconds / 60) % 60,
  ];
  if (days > 0) return `${days} d ${hours} h`;
  if (hours > 0) return `${hours} h ${minutes} min`;
  return minutes > 0 ? `${minutes} min ${seconds % 60} s` : `${seconds} s`;
}

const UNITS = [
  [3_600_000, 'h'],
  [60_000, 'min'],
  [1000, 's'],
] as const;

/** Formats the length of a window in its greatest whole unit: `15 min`. */
export function span(ms: number): string {
  const [length, unit] = UNITS.find(([length]) => ms % length === 0) ?? [1, 'ms'];
  return `${number(ms / length)} ${unit}`;
}
