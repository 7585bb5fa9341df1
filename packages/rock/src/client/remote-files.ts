import { AleError, err, ok } from "@ale/core/result";
import type {
  Bytes,
  FileChange,
  FileError,
  FileResult,
  FileStat,
  SandboxFiles,
  WriteOptions,
} from "../port/files.ts";
import { serverEvents } from "./server-events.ts";
import type { Call, Query, Transport } from "./transport.ts";

/** Files of a sandbox on a server. Streams are streams on the wire too. */

const DEFAULT_MAX_READ = 16 * 2 ** 20;
const FILE_ERRORS: readonly string[] = [
  "not-found",
  "not-a-file",
  "not-a-directory",
  "exists",
  "not-empty",
  "too-large",
  "unsafe-path",
  "disk-full",
  "bad-archive",
  "sandbox-gone",
] satisfies readonly FileError["type"][];

export class RemoteFiles implements SandboxFiles {
  readonly #transport: Transport;
  readonly #path: string;

  constructor(transport: Transport, sandbox: string) {
    this.#transport = transport;
    this.#path = `/sandboxes/${sandbox}/files`;
  }

  stat(path: string, options: { readonly followLinks?: boolean } = {}): FileResult<FileStat> {
    return this.#json("GET", "/stat", path, { query: { path, ...options } });
  }

  list(
    path: string,
    options: { readonly recursive?: boolean; readonly limit?: number } = {},
  ): FileResult<{ readonly entries: readonly FileStat[]; readonly more: boolean }> {
    return this.#json("GET", "/list", path, { query: { path, ...options } });
  }

  read(
    path: string,
    options: { readonly offset?: number; readonly length?: number; readonly maxBytes?: number } = {},
  ): FileResult<Uint8Array> {
    const { offset = 0, length, maxBytes = length ?? DEFAULT_MAX_READ } = options;
    if (length === 0) return Promise.resolve(ok(new Uint8Array()));
    const whole = offset === 0 && length === undefined;
    const range: Record<string, string> = whole ? {} : { range: rangeOf(offset, length) };
    return caught(path, async () => {
      try {
        const call = this.#call("GET", "/content", { query: { path, maxBytes }, headers: range });
        return new Uint8Array(await this.#transport.bytes(call));
      } catch (error) {
        // Nothing lies there: what a local read answers beyond the end.
        if (error instanceof AleError && error.code === "range-not-satisfiable") return new Uint8Array();
        throw error;
      }
    });
  }

  readStream(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return caught(path, () => this.#transport.open(this.#call("GET", "/content", { query: { path } })));
  }

  write(path: string, data: Bytes, options: WriteOptions = {}): FileResult<{ readonly bytes: number }> {
    const { mode, user, append } = options;
    const body = typeof data === "string" ? Buffer.from(data) : data;
    const query = { path, user, append, mode: mode?.toString(8) };
    if (!append) return this.#json("PUT", "/content", path, { query, body });
    // Appending twice is not appending once: sent as a stream, it is never repeated.
    return this.#json("PUT", "/content", path, { query, body: once(body) });
  }

  makeDirectory(
    path: string,
    options: { readonly mode?: number; readonly user?: string } = {},
  ): FileResult<void> {
    return this.#json("POST", "/directory", path, { json: { path, ...options } });
  }

  remove(path: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#json("DELETE", "", path, { query: { path, ...options } });
  }

  move(from: string, to: string, options: { readonly overwrite?: boolean } = {}): FileResult<void> {
    return this.#json("POST", "/move", from, { json: { from, to, ...options } });
  }

  changeOwner(path: string, user: string, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#json("POST", "/owner", path, { json: { path, user, ...options } });
  }

  changeMode(path: string, mode: number, options: { readonly recursive?: boolean } = {}): FileResult<void> {
    return this.#json("POST", "/mode", path, { json: { path, mode, ...options } });
  }

  upload(
    directory: string,
    tar: AsyncIterable<Uint8Array>,
    options: { readonly user?: string } = {},
  ): FileResult<{ readonly entries: number; readonly bytes: number }> {
    const query = { directory, ...options };
    const contentType = "application/x-tar";
    return this.#json("PUT", "/archive", directory, { query, body: tar, contentType });
  }

  download(path: string): FileResult<AsyncIterable<Uint8Array>> {
    return caught(path, () => this.#transport.open(this.#call("GET", "/archive", { query: { path } })));
  }

  async *watch(
    path: string,
    options: { readonly recursive?: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<FileChange> {
    try {
      const call = this.#call("GET", "/watch", { query: { path, ...options }, signal });
      for await (const { event, data } of serverEvents(await this.#transport.open(call)))
        yield { type: event as FileChange["type"], path: (data as { path: string }).path };
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #json<T>(method: Call["method"], path: string, about: string, more: Partial<Call>): FileResult<T> {
    return caught(about, () => this.#transport.json<T>(this.#call(method, path, more)));
  }

  #call(method: Call["method"], path: string, more: Partial<Call> & { readonly query?: Query }): Call {
    return { method, path: `${this.#path}${path}`, ...more };
  }
}

/** What is a file's failure here as there becomes a value; everything else throws. */
export async function caught<T>(path: string, work: () => Promise<T>): FileResult<T> {
  try {
    return ok(await work());
  } catch (error) {
    if (!(error instanceof AleError)) throw error;
    const { code, message } = error;
    if (FILE_ERRORS.includes(code)) return err({ type: code as FileError["type"], path, message });
    if (code === "sandbox-not-running" || code === "sandbox-unknown")
      return err({ type: "sandbox-gone", path, message });
    throw error;
  }
}

const rangeOf = (offset: number, length: number | undefined): string =>
  `bytes=${offset}-${length === undefined ? "" : offset + length - 1}`;

async function* once(body: Uint8Array | AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  if (body instanceof Uint8Array) yield body;
  else yield* body;
}
