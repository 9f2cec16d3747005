import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

const PAGES = {
  'socket.io': ['socket.io-page.mjs', 'socket.io-bun-page.ts'],
  'elysia-node': ['elysia-node.mjs'],
};

describe('pages: docs/hosts', () => {
  it.each(Object.entries(PAGES))('%s shows the code of its servers', (page, files) => {
    const text = readFileSync(`docs/hosts/${page}.md`, 'utf8');
    for (const file of files) {
      const code = readFileSync(`hosts/servers/${file}`, 'utf8');
      const [, example = ''] = /\/\/#region example\n([^]*?)\/\/#endregion/.exec(code) ?? [];
      expect(text).toContain(`\n${example}\`\`\``);
    }
  });
});
