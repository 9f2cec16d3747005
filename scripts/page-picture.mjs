// npm run page:picture: starts the demo with traffic, looks at its page in Chromium once its charts are filled,
// and writes docs/page.png, its upper part. With --all also the whole page at 1280 and 390 pixels, light and dark, to a folder.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { readOptions } from './lib/options.mjs';
import { build, fail, root, tool } from './lib/project.mjs';
import { startTraffic } from './traffic.mjs';

const { wait, all } = readOptions(
  `npm run page:picture -- [options]
  --wait S     seconds of traffic before the picture, 5 to 600 (default 90)
  --all DIR    also writes the page at 1280 and 390 pixels, light and dark, to this folder`,
  {
    wait: { type: 'integer', least: 5, most: 600, default: 90 },
    all: { type: 'string', default: '' },
  },
);
const TOKEN = 'correct-horse-battery';
const browserPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/google-chrome'].find(
  (path) => path !== undefined && existsSync(path),
);
if (browserPath === undefined) fail('there is no Chromium: CHROMIUM names its path');
build();
const { chromium } = await import('playwright-core');

const server = spawn(tool('bun'), ['examples/live.ts'], {
  cwd: root,
  env: { ...process.env, PORT: '0', PAGE_TOKEN: TOKEN },
  stdio: ['ignore', 'pipe', 'inherit'],
});
let origin;
for await (const data of server.stdout) {
  origin = /listening on (http:\/\/[^\s/]+)/.exec(String(data))?.[1];
  if (origin !== undefined) break;
}
if (origin === undefined) fail('the demo did not start');
startTraffic(origin, 120);
await new Promise((resolve) => setTimeout(resolve, wait * 1000));

const browser = await chromium.launch({
  executablePath: browserPath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
/** Writes a picture of the page. @param height in pixels; without it the whole page */
async function picture(path, width, colorScheme, height) {
  const viewport = { width, height: height ?? 900 };
  const page = await browser.newPage({ viewport, colorScheme });
  await page.goto(`${origin}/portcullis?token=${TOKEN}`);
  await page.waitForSelector('body[data-link="live"]');
  // The lists are complete with the second figures.
  await page.waitForSelector('#list-refused-keys table');
  await page.waitForTimeout(2500);
  await page.screenshot({ path, fullPage: height === undefined });
  await page.close();
}
await picture(join(root, 'docs/page.png'), 1400, 'light', 1000);
if (all !== '') {
  mkdirSync(all, { recursive: true });
  for (const width of [1280, 390])
    for (const scheme of ['light', 'dark'])
      await picture(join(all, `page-${width}-${scheme}.png`), width, scheme);
}
await browser.close();
server.kill();
await once(server, 'exit');
process.exit(0);
