/** The outcome of loading the addon: its exports, or the error of the generated loader. */
type Outcome =
  | { readonly loaded: unknown; readonly error?: undefined; readonly isBundled?: undefined }
  | { readonly loaded?: undefined; readonly error: unknown; readonly isBundled: boolean };
declare const outcome: Outcome;
export = outcome;
