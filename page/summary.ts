/** The verdict, the parts of the health score, and the advice. */
import { bar, byId, make, say } from './dom.js';
import { NONE, number, time } from './format.js';
import type { PageScorePart, PageSnapshot } from '../ts/page/snapshot.js';

const WORDS = {
  ok: 'All is well',
  warning: 'Warning',
  critical: 'Critical',
  draining: 'Draining',
  unknown: 'Unknown',
} as const;
const levelOf = (score: number | null): string =>
  score === null ? 'neutral' : score >= 90 ? '' : score >= 50 ? 'warning' : 'critical';

export function showVerdict({ state, reason, health, server }: PageSnapshot): void {
  document.body.dataset['state'] = state;
  say(byId('state'), WORDS[state]);
  byId('score').parentElement!.classList.toggle('absent', health === null);
  say(
    byId('score'),
    health?.score === null || health === null ? NONE : number(Math.round(health.score)),
  );
  say(byId('score-of'), health?.score === null ? 'too few data for a score' : 'of 100');
  say(byId('reason'), reason === '' ? 'Every part is within its target.' : `${reason}.`);
  say(byId('title'), server.title);
  document.title = `${health?.score === null || health === null ? WORDS[state] : Math.round(health.score)} · ${server.title}`;
  const color = {
    ok: '#22a35a',
    warning: '#e79a0c',
    critical: '#e5383b',
    draining: '#e79a0c',
    unknown: '#8b97a5',
  }[state];
  const icon = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${color}"/></svg>`;
  const href = `data:image/svg+xml,${encodeURIComponent(icon)}`;
  if (byId('icon').getAttribute('href') !== href) byId('icon').setAttribute('href', href);
}

export function showParts({ health }: PageSnapshot): void {
  if (health === null) {
    byId('parts').replaceChildren(
      make(
        'li',
        'none',
        make('span', '', 'Not in use: ', make('code', '', 'page.metrics'), ' makes the score.'),
      ),
    );
    return;
  }
  // A condition without a weight is shown while it caps the score.
  const shown = health.parts.filter(({ weight, cap }) => weight > 0 || cap !== null);
  byId('parts').replaceChildren(...shown.map(rowOf));
}

function rowOf({
  name,
  score,
  weight,
  observed,
  target,
  zeroAt,
  unit,
  cap,
  capEndsAt,
}: PageScorePart): HTMLElement {
  const figure = make(
    'span',
    'figure',
    make('b', '', `${number(observed)} ${observed === null ? '' : unit}`.trim()),
    target === null ? '' : ` of ${number(target)} ${unit}`.trimEnd(),
  );
  const row = make(
    'li',
    '',
    make(
      'span',
      '',
      name,
      make('small', '', weight === 0 ? '' : ` ${Number(weight.toPrecision(3))}`),
    ),
    bar([(score ?? 0) / 100, levelOf(score)]),
    figure,
    cap === null
      ? null
      : make(
          'span',
          'cap',
          `caps the score at ${number(cap)}${capEndsAt === null ? '' : ` until ${time(capEndsAt)}`}`,
        ),
  );
  const withUnit = (value: number | null): string => `${number(value)} ${unit}`.trim();
  row.title = `Weight ${weight}; ${score === null ? 'no score' : `${number(score)} of 100`}; observed ${withUnit(observed)}; 100 up to ${withUnit(target)}, 0 from ${withUnit(zeroAt)}`;
  return row;
}

export function showAdvice({ advice: list }: PageSnapshot): void {
  const one = (className: string, text: string, detail: string): HTMLElement =>
    make('li', className, make('p', '', text), detail === '' ? null : make('p', 'detail', detail));
  if (list === null)
    byId('advice').replaceChildren(
      one('', 'Not in use', 'Recommendations need metrics or a monitor.'),
    );
  else if (list.length === 0) byId('advice').replaceChildren(one('ok', 'Nothing to do.', ''));
  else
    byId('advice').replaceChildren(
      ...list.map(({ severity, text, detail }) => one(severity, text, detail)),
    );
}
