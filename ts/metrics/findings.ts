/** Findings: figures beyond their thresholds, each with a recommended action. One function each. */
import { ALERT_SAMPLES_MIN, PAGE_BURN_RATE, TICKET_BURN_RATE } from './error-budgets.js';
import {
  LOOP_DELAY_MAX_MS,
  type Observed,
  SATURATION_MAX,
  STALL_COUNT,
  STALLED_SHARE,
  UTILIZATION_MAX,
} from './health-score.js';
import type { ErrorBudget, ProductionTargets, Recommendation } from './report.js';

type Finding = Recommendation | undefined;

/** Reports a figure above `threshold`: as critical above `criticalAt`, else as a warning. */
function above(
  observed: number | null,
  threshold: number,
  criticalAt: number,
  text: Pick<Recommendation, 'id' | 'figure' | 'action'>,
): Finding {
  if (observed === null || observed <= threshold) return undefined;
  const { id, figure, action } = text;
  const severity = observed > criticalAt ? 'critical' : 'warning';
  return { id, severity, figure, observed, threshold, action };
}

const latency = ({ meanMs }: Observed, { maxResponseTime }: ProductionTargets): Finding =>
  above(meanMs, maxResponseTime, maxResponseTime * 2, {
    id: 'latency',
    figure: 'average response time, ms',
    action: 'Consider optimizing middleware chain execution',
  });

const memory = ({ memoryMb }: Observed, { maxMemoryUsage }: ProductionTargets): Finding =>
  above(memoryMb, maxMemoryUsage, maxMemoryUsage * 2, {
    id: 'memory',
    figure: 'resident memory, MB',
    action: 'Investigate memory leaks and increase GC frequency',
  });

const errors = ({ errorRate }: Observed, { maxErrorRate }: ProductionTargets): Finding =>
  above(errorRate, maxErrorRate, maxErrorRate * 5, {
    id: 'errors',
    figure: 'share of failed requests',
    action: 'Review error handling and input validation',
  });

const cpu = ({ cpuPercent }: Observed, { maxCpuUsage }: ProductionTargets): Finding =>
  above(cpuPercent, maxCpuUsage, 95, {
    id: 'cpu',
    figure: 'percent of the allowed CPUs in use',
    action: 'Add CPUs or processes, or profile the process',
  });

const loopDelay = ({ loopDelayMs }: Observed): Finding =>
  above(loopDelayMs, LOOP_DELAY_MAX_MS, 500, {
    id: 'loop_delay',
    figure: '99th percentile of the event loop delay, ms',
    action: 'Find the code that blocks the event loop: stalls name its route',
  });

const utilization = ({ utilization: share }: Observed): Finding =>
  above(share, UTILIZATION_MAX, 0.99, {
    id: 'utilization',
    figure: 'share of time in which the event loop was busy',
    action: 'Add processes or workers, or refuse load: the event loop is saturated',
  });

const saturation = ({ saturation: share }: Observed): Finding =>
  above(share, SATURATION_MAX, 0.99, {
    id: 'saturation',
    figure: 'share of the connection limit in use',
    action: 'Raise the connection limit or add servers',
  });

const refusals = ({ refusedShare }: Observed): Finding =>
  above(refusedShare, 0.05, 0.5, {
    id: 'refusals',
    figure: 'share of refused arrivals',
    action: 'Check the refusals by code: a limit is too low, or a client misbehaves',
  });

const STALL_ACTIONS: Readonly<Record<string, string>> = {
  busy: 'Move the work that blocks the event loop to a worker, or split it',
  blocked: 'Replace synchronous file, process and DNS calls by asynchronous ones',
  starved: 'Give the process more CPU: its thread is ready to run, but waits for a CPU',
  throttled: 'Raise the CPU quota: the process is throttled',
};

/** Reports a recent stall: as critical if stalls lower the score, else as a warning. */
function stall({ stall: last, stalledShare, stallCount }: Observed): Finding {
  if (last === null) return undefined;
  const { cause, label, durationMs } = last;
  const areMany =
    (stalledShare?.value ?? 0) > STALLED_SHARE.target ||
    (stallCount?.value ?? 0) > STALL_COUNT.target;
  const action = STALL_ACTIONS[cause] ?? 'Find the code that blocks the event loop';
  return {
    id: `stall_${cause}`,
    severity: areMany ? 'critical' : 'warning',
    figure: 'stall of the event loop, ms',
    observed: durationMs,
    threshold: 100,
    action: label === null ? action : `${action} (${label})`,
  };
}

function oomKill({ kills }: Observed): Finding {
  if (kills === null || kills.value === 0) return undefined;
  return {
    id: 'oom_kill',
    severity: 'critical',
    figure: 'processes killed by the OOM killer',
    observed: kills.value,
    threshold: 0,
    action: 'Raise the memory limit, or reduce the memory that the processes keep',
  };
}

function memoryLimit({ memoryState, memoryPercent }: Observed): Finding {
  if (memoryState === 'ok' || memoryPercent === null) return undefined;
  return {
    id: 'memory_limit',
    severity: memoryState,
    figure: 'percent of the binding memory limit in use',
    observed: memoryPercent,
    threshold: 0,
    action: 'Raise the memory limit or shed load before the process is killed',
  };
}

function tail({ requests, p50Ms, p99Ms }: Observed): Finding {
  if (requests < ALERT_SAMPLES_MIN || p50Ms === null || p99Ms === null || p50Ms <= 0)
    return undefined;
  return above(p99Ms / p50Ms, 20, Infinity, {
    id: 'tail',
    figure: '99th percentile of response times divided by their median',
    action: 'Check the slowest routes: a few requests take far longer than the rest',
  });
}

function routesOverflow({ routesOverflowed, maxRoutes }: Observed): Finding {
  if (routesOverflowed === 0) return undefined;
  return {
    id: 'routes_overflow',
    severity: 'info',
    figure: 'requests of routes beyond maxRoutes',
    observed: routesOverflowed,
    threshold: 0,
    action: `Record patterns instead of paths, or raise maxRoutes (${maxRoutes})`,
  };
}

function burnRate({ id, alert, burnRate: rates }: ErrorBudget): Finding {
  if (alert === null) return undefined;
  const isPage = alert === 'page';
  const requests = id === 'errors' ? 'failed' : 'slow';
  return {
    id: `burn_${id}`,
    severity: isPage ? 'critical' : 'warning',
    figure: 'burn rate of the error budget',
    observed: (isPage ? rates['1h'] : rates['3d']) ?? 0,
    threshold: isPage ? PAGE_BURN_RATE : TICKET_BURN_RATE,
    action: `The budget of ${requests} requests is running out: ${isPage ? 'act now' : 'plan a fix'}`,
  };
}

const FINDERS: readonly ((seen: Observed, targets: ProductionTargets) => Finding)[] = [
  latency,
  memory,
  errors,
  cpu,
  loopDelay,
  utilization,
  saturation,
  refusals,
  stall,
  oomKill,
  memoryLimit,
  tail,
  routesOverflow,
];
const SEVERITIES: readonly Recommendation['severity'][] = ['critical', 'warning', 'info'];

/** Returns all findings, the most severe first. @internal */
export function findingsOf(
  seen: Observed,
  targets: ProductionTargets,
  budgets: readonly ErrorBudget[],
): Recommendation[] {
  const found = [...FINDERS.map((find) => find(seen, targets)), ...budgets.map(burnRate)];
  return found
    .filter((finding) => finding !== undefined)
    .toSorted((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity));
}
