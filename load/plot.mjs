// Plots the figures of a host as SVG: a panel for each figure, a bar for each contestant. Its own
// white background makes it readable on light and dark pages.
const PANELS = [
  ['messages a second', 'more is better', ({ burst }) => burst.perSecond, 0],
  ['server CPU s per million messages', 'less is better', ({ burst }) => burst.cpuPerMillion, 1],
  ['round trip p99, ms', 'less is better', ({ steady }) => steady.p99Ms, 2],
  [
    'memory per idle connection, KB',
    'less is better',
    ({ bytesPerConnection }) => bytesPerConnection / 1024,
    1,
  ],
  ['connects a second', 'more is better', ({ connectsPerSecond }) => connectsPerSecond, 0],
  ['CPU of a refused connect, µs', 'less is better', ({ flood }) => flood?.cpuMicros, 0],
];
const COLOURS = { bare: '#8a8f98', twin: '#b58900', npm: '#c4572e', portcullis: '#2a7ab8' };
const [WIDTH, PANEL_WIDTH, LABEL, BAR, ROW, HEAD, TOP] = [960, 440, 84, 18, 24, 44, 62];
const COLUMNS = 2;

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);

/**
 * Renders the plot.
 * @param figures medians by contestant
 * @param caption the machine and the commit
 */
export function plotOf(figures, title, caption) {
  const names = Object.keys(figures);
  const panelHeight = HEAD + names.length * ROW + 16;
  const panels = PANELS.map(([what, better, figure, digits], index) => {
    const x = 20 + (index % COLUMNS) * (PANEL_WIDTH + 40);
    const y = TOP + Math.floor(index / COLUMNS) * panelHeight;
    const values = names.map((name) => figure(figures[name]));
    const most = Math.max(...values.filter((value) => value !== undefined), Number.MIN_VALUE);
    const bars = names.map((name, row) => {
      const top = HEAD + row * ROW;
      const value = values[row];
      const width =
        value === undefined ? 0 : (Math.max(0, value) / most) * (PANEL_WIDTH - LABEL - 80);
      const text =
        value === undefined
          ? 'no refusals'
          : value.toLocaleString('en-US', {
              minimumFractionDigits: digits,
              maximumFractionDigits: digits,
            });
      return `<text x="${LABEL - 8}" y="${top + 13}" text-anchor="end">${escaped(name)}</text><rect x="${LABEL}" y="${top}" width="${width.toFixed(1)}" height="${BAR}" rx="2" fill="${COLOURS[name]}"/><text x="${(LABEL + width + 6).toFixed(1)}" y="${top + 13}">${text}</text>`;
    });
    return `<g transform="translate(${x} ${y})"><text y="18" font-weight="600">${escaped(what)}</text><text y="34" class="quiet">${better}</text>${bars.join('')}</g>`;
  });
  const height = TOP + Math.ceil(PANELS.length / COLUMNS) * panelHeight + 10;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title)}">
<style>text{font:12px system-ui,sans-serif;fill:#24292f}.quiet{font-size:11px;fill:#6a737d}.title{font-size:16px;font-weight:600}</style>
<rect width="100%" height="100%" fill="#ffffff"/>
<text x="20" y="28" class="title">${escaped(title)}</text><text x="20" y="46" class="quiet">${escaped(caption)}</text>
${panels.join('\n')}
</svg>
`;
}
