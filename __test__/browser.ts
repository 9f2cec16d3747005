import { existsSync } from 'node:fs';
import { type Browser, chromium } from 'playwright-core';

/** Paths of Chromium on Debian and others; `CHROMIUM` names another. */
const PATHS = [
  process.env['CHROMIUM'],
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
];

/** The browser, or `undefined` where there is none. */
export const browserPath: string | undefined = PATHS.find(
  (path) => path !== undefined && existsSync(path),
);

if (browserPath === undefined)
  console.log(
    'skipped: the page in a browser, because there is no Chromium (Debian: apt-get install chromium)',
  );

export function launch(): Promise<Browser> {
  const args = [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
    '--disable-dev-shm-usage',
  ];
  return chromium.launch({ executablePath: browserPath!, headless: true, args });
}
