/** The verdict, the parts of the health score, and the advice. */
import { bar, byId, make, say } from './dom.js';
import { NONE, number } from './format.js';
import type { PageSnapshot } from '../ts/page/snapshot.js';

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
  byId('parts').replaceChildren(
    ...health.parts.map(({ name, score, observed, target, unit }) => {
      const figure = make(
        'span',
        'figure',
        make('b', '', `${number(observed)} ${observed === null ? '' : unit}`.trim()),
        target === null ? '' : ` of ${number(target)} ${unit}`,
      );
      const row = make(
        'li',
        '',
        make('span', '', name),
        bar([(score ?? 0) / 100, levelOf(score)]),
        figure,
      );
      row.title = `${score === null ? 'No score' : `${Math.round(score)} of 100`}; observed ${number(observed)} ${unit}, target ${number(target)} ${unit}`;
      return row;
    }),
  );
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
