// Opens pages of the built site in Chromium, wide and narrow, light and dark. Nothing may be asked of
// another host, nothing may be written to the console, and no page may be wider than its window.
import { createServer } from 'node:http';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { extname, join, normalize } from 'node:path';

const CHROMIUM = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'];
const PAGES = {
  home: 'index.html',
  migrating: 'docs/migrating.html',
  comparison: 'docs/comparison.html',
  api: 'docs/api/guard.html',
  reference: 'reference/portcullis/classes/TokenVerifier.html',
  type: 'reference/portcullis/interfaces/ConnectionLimits.html',
  example: 'examples/ws/index.html',
  benchmarks: 'docs/benchmarks.html',
};
const TYPES = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.png': 'image/png',
  '.woff2': 'font/woff2',
  '.txt': 'text/plain; charset=utf-8',
};

/** Serves the folder on a free port. */
function serve(dist) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, 'http://site').pathname));
    const file = join(dist, path.endsWith('/') ? `${path}index.html` : path);
    if (!existsSync(file) || !statSync(file).isFile()) return response.writeHead(404).end();
    response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream');
    return response.end(readFileSync(file));
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve(server));
  });
}

/** Opens one page; returns its problems. */
async function open(browser, origin, path, { width, theme, shot }) {
  const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme: theme });
  const problems = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(message.text());
  });
  page.on('pageerror', (error) => problems.push(String(error)));
  await page.route('**', (route) => {
    const url = route.request().url();
    if (url.startsWith(origin) || url.startsWith('data:')) return route.continue();
    problems.push(`asks for ${url}`);
    return route.abort();
  });
  await page.goto(`${origin}/${path}`, { waitUntil: 'networkidle' });
  // Vue has taken over the page that was rendered before.
  await page.waitForFunction(() => document.querySelector('#app')?.__vue_app__ !== undefined);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) problems.push(`is ${wide} px wide`);
  if (shot !== undefined) await page.screenshot({ path: shot });
  if (path === 'index.html') await search(page, shot?.replace('home', 'search'));
  await page.close();
  return problems.map((problem) => `${path} at ${width} px, ${theme}: ${problem}`);
}

/** Searches offline; the index is loaded only now. */
async function search(page, shot) {
  await page.locator('.VPNavBarSearch button').first().click();
  await page.locator('.VPLocalSearchBox input').fill('maxConnectionsPerIp');
  await page.locator('.VPLocalSearchBox .result').first().waitFor({ timeout: 20_000 });
  if (shot !== undefined) await page.screenshot({ path: shot });
}

/**
 * Opens the pages in every width and theme.
 * @param shots folder for screenshots; without it, none are made
 */
export async function browse(dist, shots) {
  const executablePath = CHROMIUM.find((path) => path !== undefined && existsSync(path));
  if (executablePath === undefined) {
    console.log('skipped: the site in a browser, because there is no Chromium');
    return;
  }
  const { chromium } = await import('playwright-core');
  if (shots !== undefined) mkdirSync(shots, { recursive: true });
  const server = await serve(dist);
  const origin = `http://127.0.0.1:${server.address().port}`;
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  const problems = [];
  let opened = 0;
  for (const [name, path] of Object.entries(PAGES))
    for (const width of [1280, 390])
      for (const theme of ['light', 'dark']) {
        const shot = shots === undefined ? undefined : join(shots, `${name}-${width}-${theme}.png`);
        problems.push(...(await open(browser, origin, path, { width, theme, shot })));
        opened++;
      }
  await browser.close();
  server.close();
  if (problems.length > 0) throw new Error(`the site in a browser:\n${problems.join('\n')}`);
  console.log(`${opened} pages opened in Chromium: no request to another host, no error`);
}
