// Renders the lists of the core: exposed metrics, cells shared with the watcher's thread, failures
// of input.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { failureRows } from '../../native/loader.js';
import { root } from '../lib/project.mjs';
import { cell, table } from './tables.mjs';

const FAMILIES = 'src/metrics/families.rs';
const CELLS = 'src/sampler/cell.rs';
const FAMILY =
  /family\(\s*(Otel|Prom|Both),\s*"([^"]+)",\s*(Counter|Gauge|Histogram),\s*"([^"]*)",\s*"([^"]+)",?\s*\)(?:,\s*labels: &\[([^\]]*)\])?/g;

const read = (path) => readFileSync(join(root, path), 'utf8');
const inCode = (text) => `\`${text}\``;

function familyRow({ naming, family, kind, unit = '', help, labels }) {
  return [
    inCode(`${family}${kind === 'Counter' ? '_total' : ''}`),
    kind.toLowerCase(),
    naming.toLowerCase(),
    unit || 'number',
    labels.map(inCode).join(', '),
    cell(help),
  ];
}

/** Returns the rows of the metrics of requests, whose names and labels differ by naming. */
function requestRows(source) {
  const [, requests = ''] = /pub const REQUESTS[^=]*= &\[([\s\S]*)\];/.exec(source) ?? [];
  return [...requests.matchAll(/RequestWords \{([^}]*)\}/g)].flatMap(([, body]) => {
    const {
      naming,
      duration,
      requests: counter,
      method,
      route,
      status,
    } = Object.fromEntries(
      [...body.matchAll(/(\w+): "?(\w+)"?/g)].map(([, key, value]) => [key, value]),
    );
    return [
      familyRow({
        naming,
        family: duration,
        kind: 'Histogram',
        unit: 'seconds',
        help: 'Duration of requests',
        labels: [method, route, 'le'],
      }),
      familyRow({
        naming,
        family: counter,
        kind: 'Counter',
        help: 'Requests by status',
        labels: [method, route, status],
      }),
    ];
  });
}

function metricsTable() {
  const source = read(FAMILIES);
  const rows = [
    ...requestRows(source),
    ...[...source.matchAll(FAMILY)].map(([, naming, family, kind, unit, help, labels = '']) =>
      familyRow({
        naming,
        family,
        kind,
        unit,
        help,
        labels: [...labels.matchAll(/"(\w+)"/g)].map(([, label]) => label),
      }),
    ),
  ];
  if (rows.length === 0) throw new Error(`docs: ${FAMILIES} names no families`);
  return table(['name', 'type', 'naming', 'unit', 'labels', 'meaning'], rows);
}

function cellsTable() {
  const rows = [
    ...read(CELLS).matchAll(/\/\/\/ (\w+)[^:\n]*: ([^\n]+)\n\s*pub const (\w+): usize = (\d+);/g),
  ].map(([, writer, what, name, at]) => [Number(at) * 8, inCode(name), writer, cell(what)]);
  if (rows.length === 0) throw new Error(`docs: ${CELLS} names no cells`);
  return table(['byte', 'cell', 'written by', 'what'], rows);
}

function failuresTable() {
  const rows = failureRows().map(({ code, status, meaning, remedy }) => [
    inCode(code),
    status,
    meaning,
    cell(remedy),
  ]);
  return table(['code', 'status', 'meaning', 'what to do'], rows);
}

const TABLES = { metrics: metricsTable, cells: cellsTable, failures: failuresTable };

/** Renders a list of the core: `metrics`, `cells` or `failures`. */
export function coreTable(name) {
  if (!Object.hasOwn(TABLES, name)) throw new Error(`docs: the core has no list of ${name}`);
  return TABLES[name]();
}
