import { defineConfig } from 'vitepress';
import { sidebar } from './sidebar.mjs';
import { slug } from './slug.mjs';

const ICON = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><path d="M5 4h22M8 4v24M16 4v24M24 4v24M5 12h22M5 20h22" stroke="%233c6e71" stroke-width="3" stroke-linecap="round"/></svg>`;

export default defineConfig({
  lang: 'en',
  title: 'Portcullis',
  description: 'Guards WebSocket and HTTP servers on Node.js and Bun',
  srcDir: 'content',
  outDir: 'dist',
  // A folder of a host on which the site is served, with a slash at both ends.
  base: process.env.SITE_BASE ?? '/',
  head: [['link', { rel: 'icon', href: `data:image/svg+xml,${ICON}` }]],
  ignoreDeadLinks: false,
  markdown: { anchor: { slugify: slug } },
  themeConfig: {
    nav: [
      { text: 'Guide', link: '/', activeMatch: '^/(?:$|docs/(?!api/)|examples/)' },
      { text: 'API', link: '/docs/api/', activeMatch: '^/docs/api/' },
      { text: 'Reference', link: '/reference/', activeMatch: '^/reference/' },
    ],
    sidebar: sidebar(),
    outline: [2, 3],
    search: { provider: 'local' },
  },
});
