// The packages stay where they are: the project itself is a link, which cannot be traced.
export default {
  compatibilityDate: '2026-01-01',
  srcDir: 'server',
  experimental: { websocket: true },
  externals: { trace: false },
};
