/** Certificates for tests only. */
export const CERTIFICATES: {
  readonly ca: string;
  readonly server: { readonly cert: string; readonly key: string };
  readonly client: { readonly cert: string; readonly key: string };
};
