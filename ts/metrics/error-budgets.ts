/** Error budgets and their burn rates, after chapter 5 of Google's SRE workbook. */
import type { Totals } from './ledger.js';
import type { ErrorBudget } from './report.js';

/** Length of each window, minutes. @internal */
export const BURN_MINUTES = { '5m': 5, '30m': 30, '1h': 60, '6h': 360, '3d': 4320 } as const;

type BurnWindow = keyof typeof BURN_MINUTES;

/** Fewer requests than this in an alert's longer window raise no alert. @internal */
export const ALERT_SAMPLES_MIN = 100;

/** Burn rates at which the two alerts are raised. @internal */
export const PAGE_BURN_RATE = 6;
const PAGE_FAST_BURN_RATE = 14.4;
/** @internal */
export const TICKET_BURN_RATE = 1;

/**
 * Returns the budget of one objective. A burn rate is the share of bad requests divided by the
 * allowed share. An alert requires its rate in both of its windows, and 100 requests in the longer
 * one.
 * @param allowed share of bad requests that the objective allows, 0 to 1
 * @internal
 */
export function errorBudgetOf(
  id: ErrorBudget['id'],
  allowed: number,
  totals: Readonly<Record<BurnWindow, Totals>>,
): ErrorBudget {
  const bad = (window: BurnWindow): number =>
    id === 'errors' ? totals[window].errors : totals[window].slow;
  const burn = (window: BurnWindow): number | null => {
    const { requests } = totals[window];
    return requests === 0 || allowed === 0 ? null : bad(window) / requests / allowed;
  };
  const burnRate = {
    '5m': burn('5m'),
    '30m': burn('30m'),
    '1h': burn('1h'),
    '6h': burn('6h'),
    '3d': burn('3d'),
  };
  const burns = (long: BurnWindow, short: BurnWindow, rate: number): boolean =>
    totals[long].requests >= ALERT_SAMPLES_MIN &&
    (burnRate[long] ?? 0) >= rate &&
    (burnRate[short] ?? 0) >= rate;
  const isPage = burns('1h', '5m', PAGE_FAST_BURN_RATE) || burns('6h', '30m', PAGE_BURN_RATE);
  return {
    id,
    objective: 1 - allowed,
    burnRate,
    remaining: remainingOf(burnRate['3d'], totals['3d'].requests, bad('3d')),
    alert: isPage ? 'page' : burns('3d', '6h', TICKET_BURN_RATE) ? 'ticket' : null,
  };
}

function remainingOf(rate: number | null, requests: number, bad: number): number | null {
  if (rate !== null) return 1 - rate;
  if (requests === 0) return null;
  // The objective allows no bad request.
  return bad === 0 ? 1 : 0;
}
