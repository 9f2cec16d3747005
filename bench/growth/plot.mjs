// Plots the cost of an operation against the size of a subject as SVG: a panel for each subject, a line for each host.
// Both axes are logarithmic from size to size, costs from zero. Its own white background makes it readable on light and
// dark pages.
const COLOURS = { Node: '#2a7ab8', Bun: '#c4572e' };
const [WIDTH, COLUMNS, PANEL_WIDTH, PANEL_HEIGHT, PLOT_HEIGHT, TOP] = [960, 2, 440, 200, 110, 62];

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

function panelOf({ title, unit, rows, nameOf }, x, y) {
  const costs = rows.flatMap(({ costs: all }) => Object.values(all)).filter(Number.isFinite);
  const most = Math.max(...costs, Number.MIN_VALUE);
  const xOf = (at) => 50 + (at * (PANEL_WIDTH - 100)) / Math.max(1, rows.length - 1);
  const yOf = (cost) => 48 + PLOT_HEIGHT * (1 - cost / most);
  const ticks = rows.map(
    ({ size }, at) =>
      `<text x="${xOf(at).toFixed(1)}" y="${48 + PLOT_HEIGHT + 18}" text-anchor="middle" class="quiet">${escaped(nameOf(size))}</text>`,
  );
  const lines = Object.entries(COLOURS).map(([host, colour]) => {
    const points = rows.flatMap(({ costs: all }, at) =>
      Number.isFinite(all[host]) ? [[xOf(at).toFixed(1), yOf(all[host]).toFixed(1)]] : [],
    );
    const dots = points.map(([cx, cy]) => `<circle cx="${cx}" cy="${cy}" r="3" fill="${colour}"/>`);
    return `<polyline points="${points.map((point) => point.join()).join(' ')}" fill="none" stroke="${colour}" stroke-width="2"/>${dots.join('')}`;
  });
  return `<g transform="translate(${x} ${y})"><text y="18" font-weight="600">${escaped(title)}</text><text y="34" class="quiet">${escaped(unit)}, up to ${most.toPrecision(3)}</text><path d="M40 ${48 + PLOT_HEIGHT}H${PANEL_WIDTH - 40}" stroke="#d0d7de"/>${ticks.join('')}${lines.join('')}</g>`;
}

/**
 * Renders the plot.
 * @param subjects title, unit, `rows` of a size and the costs by host, `nameOf` a size
 * @param caption the machine
 */
export function plotOf(subjects, caption) {
  const panels = subjects.map((subject, at) =>
    panelOf(
      subject,
      20 + (at % COLUMNS) * (PANEL_WIDTH + 40),
      TOP + Math.floor(at / COLUMNS) * PANEL_HEIGHT,
    ),
  );
  const height = TOP + Math.ceil(subjects.length / COLUMNS) * PANEL_HEIGHT + 10;
  const legend = Object.entries(COLOURS).map(
    ([host, colour], at) =>
      `<rect x="${760 + at * 80}" y="18" width="12" height="12" rx="2" fill="${colour}"/><text x="${778 + at * 80}" y="28">${host}</text>`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="Cost of an operation by size">
<style>text{font:12px system-ui,sans-serif;fill:#24292f}.quiet{font-size:11px;fill:#6a737d}.title{font-size:16px;font-weight:600}</style>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="28" class="title">Cost of an operation by size</text><text x="20" y="46" class="quiet">${escaped(caption)}</text>${legend.join('')}
${panels.join('\n')}
</svg>
`;
}
