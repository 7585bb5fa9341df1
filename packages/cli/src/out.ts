/** The part of an output stream that the CLI uses; process.stdout and process.stderr fit, and so does an array in a test. */
export interface Out {
  write(text: string): unknown;
  readonly isTTY?: boolean | undefined;
  readonly columns?: number | undefined;
}
