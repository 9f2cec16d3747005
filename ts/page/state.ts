/** The state of the server in one word, and the reason for it. */
import type { ResourceSnapshot } from '../resources/figures.js';
import type { PressureFigures } from '../resources/pressure.js';
import type { PageGlance } from './metrics.js';
import { type PageState, rounded } from './snapshot.js';

const NO_PRESSURE: PressureFigures = { share: 0, causes: {}, refused: {}, limits: [] };
/** Scores below this are critical. */
const CRITICAL_SCORE = 50;

/**
 * Returns the state and its reason. Memory at its critical threshold goes before the health score,
 * because the kernel may kill the process.
 * @internal
 */
export function stateOf(
  resources: ResourceSnapshot | undefined,
  metrics: PageGlance | undefined,
  pressure?: PressureFigures,
): readonly [state: PageState, reason: string] {
  if (resources === undefined && metrics === undefined)
    return ['unknown', 'Neither a monitor nor metrics are in use'];
  if (resources?.state === 'critical') return ['critical', memoryReason(resources)];
  const score = metrics?.score ?? null;
  if (metrics !== undefined && score !== null && score < CRITICAL_SCORE) {
    const finding = metrics.advice.find(({ severity }) => severity === 'critical');
    return ['critical', finding?.detail ?? worstPart(metrics)];
  }
  const shedding = sheddingReason(pressure);
  if (shedding !== undefined) return ['warning', shedding];
  if (resources?.state === 'warning') return ['warning', memoryReason(resources)];
  if (metrics !== undefined && score !== null && score < metrics.minScore)
    return ['warning', worstPart(metrics)];
  return ['ok', ''];
}

/** Names the causes other than memory for which newcomers are refused. */
function sheddingReason({ share, causes }: PressureFigures = NO_PRESSURE): string | undefined {
  const names = Object.keys(causes).filter((cause) => cause !== 'memory');
  return names.length === 0
    ? undefined
    : `${Math.round(share * 100)} % of newcomers are refused: ${names.join(', ')}`;
}

function memoryReason({ memory }: ResourceSnapshot): string {
  const percent = memory.effectiveLimit?.percent;
  return percent === undefined ? 'Memory' : `Memory at ${Math.round(percent)} % of its limit`;
}

/** Names the part of the score with the lowest score, and its figures. */
function worstPart({ parts }: PageGlance): string {
  const worst = parts
    .filter((part) => part.score !== null && (part.weight > 0 || part.cap !== null))
    .toSorted((a, b) => a.score! - b.score!)[0];
  if (worst === undefined) return '';
  const { name, observed, target, unit } = worst;
  const figure = (value: number | null): string => `${rounded(value) ?? ''} ${unit}`.trim();
  return `${name} ${figure(observed)}, target ${figure(target)}`;
}
