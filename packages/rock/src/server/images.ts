/** What the server needs of a store of images. Images belong to the host: every tenant may run them, the scope `image` changes them. */

export interface StoredImage {
  readonly name: string;
  readonly digest: string;
  /** Of its layers, unpacked. */
  readonly bytes: number;
  readonly createdAtMs: number | null;
}

export interface ImageShelf {
  list(): Promise<readonly StoredImage[]>;
  /** Fetches it where it is not there, or has changed. Throws an AleError that begins with `image-` or says what of the network failed. */
  pull(name: string, progress: (message: string) => void, signal?: AbortSignal): Promise<StoredImage>;
  /** Throws an AleError `image-unknown` or `image-in-use`. */
  remove(name: string): Promise<void>;
}
