import { AleError, err, ok, type Result } from "@ale/core";
import { FrameReader } from "../inside/control.ts";
import { Inflow, Outflow, WINDOW_BYTES } from "../inside/flow.ts";
import type { InitClient } from "../oci/init-client.ts";
import type { FileError } from "../port/files.ts";

/**
 * Conversations with inside/files.pl: a child of PID 1 does one operation on the sandbox's files. Frames come as they are made, input
 * goes as it is taken; neither end holds more than a window.
 */

/** An operation that takes longer is ended: whatever hangs (a frozen sandbox) must not hang its caller for ever. */
const LONGEST_MS = 3_600_000;

/** What it takes PID 1 to begin, at most. */
const PROMPT_MS = 10_000;

export type Fields = readonly (string | number)[];
export type Frame = readonly [type: string, ...fields: Buffer[]];
export type Input = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

const ERROR_TYPES: readonly FileError["type"][] = [
  "not-found",
  "not-a-file",
  "not-a-directory",
  "exists",
  "not-empty",
  "too-large",
  "unsafe-path",
  "disk-full",
  "bad-archive",
];

/** A file operation's refusal, on its way through generators; made a Result where they end. */
export class FileFault extends Error {
  readonly error: FileError;
  constructor(error: FileError) {
    super(`${error.path}: ${error.type}`);
    this.error = error;
  }
}

/** Turns a refusal into a value. Everything else stays an exception. */
export async function settled<T>(work: () => Promise<T>): Promise<Result<T, FileError>> {
  try {
    return ok(await work());
  } catch (reason) {
    if (reason instanceof FileFault) return err(reason.error);
    throw reason;
  }
}

/** The frames of an operation but the last, which is the generator's value. Throws a FileFault, or an AleError. Leaving early ends the operation. */
export async function* conversation(
  client: InitClient,
  operation: string,
  args: Fields,
  input: Input = [],
  signal?: AbortSignal,
): AsyncGenerator<Frame, readonly Buffer[]> {
  signal?.throwIfAborted();
  const path = String(args[0] ?? "");
  let id = "";
  let failure: string | undefined;
  let isAnswered = false;
  const ended = Promise.withResolvers<void>();
  const output = new Inflow(
    (bytes) => client.send("credit", id, "out", bytes),
    () => client.send("drop", id, "out"),
  );
  const stdin = new Outflow((bytes, last) => client.send("write", id, bytes, last ? 1 : 0));
  let isGone = false;
  const over = (): void => {
    ended.resolve();
    stdin.deaf();
    output.end();
  };
  const hear = (type: string, [first, second]: readonly Buffer[]): boolean => {
    if (type === "started") clearTimeout(impatience);
    if (type === "out" && String(first) === "out" && second !== undefined) output.push(second);
    else if (type === "out" && second !== undefined) client.send("credit", id, "err", second.length);
    else if (type === "taken") stdin.taken(Number(first));
    else if (type === "deaf") stdin.deaf();
    if (type === "fail") failure = String(first);
    if (type === "exit" || type === "fail") over();
    return type === "exit" || type === "fail";
  };
  id = client.converse("files", [LONGEST_MS, WINDOW_BYTES, operation, ...args], {
    hear,
    gone: () => {
      isGone = true;
      over();
    },
  });
  const cancel = (): void => client.send("cancel", id);
  signal?.addEventListener("abort", cancel, { once: true });
  // Should PID 1 not take the request up, the sandbox is ended.
  const impatience = setTimeout(() => void client.probe(), PROMPT_MS);
  let broken: { readonly reason: unknown } | undefined;
  // Without its end the operation takes back what is not whole, and answers.
  const fed = feed(stdin, input).catch((reason) => {
    broken = { reason };
    stdin.close();
  });
  const reader = new FrameReader();
  try {
    for await (const chunk of output) {
      for (const [kind, ...fields] of reader.push(Buffer.from(chunk))) {
        // What was still on its way is not given out as if there were more to come.
        if (isGone) throw new FileFault({ type: "sandbox-gone", path });
        const type = String(kind);
        isAnswered = type === "error" || type === "ok";
        if (type === "error")
          throw broken === undefined ? refusal(fields, path) : blamed(broken.reason, fields);
        if (type === "ok") {
          await fed;
          return fields;
        }
        yield [type, ...fields];
      }
    }
    signal?.throwIfAborted();
    await fed;
    if (failure !== undefined) throw busy(failure);
    throw new FileFault({ type: "sandbox-gone", path });
  } finally {
    clearTimeout(impatience);
    signal?.removeEventListener("abort", cancel);
    if (!isAnswered) {
      cancel();
      await ended.promise;
    }
  }
}

/** The last frame of an operation that says nothing else. */
export async function order(
  client: InitClient,
  operation: string,
  args: Fields,
  input?: Input,
  signal?: AbortSignal,
): Promise<readonly Buffer[]> {
  const frames = conversation(client, operation, args, input, signal);
  for (;;) {
    const { done, value } = await frames.next();
    if (done) return value;
  }
}

/** Chunks as files.pl takes them. The end of the input is the caller's to write. */
export function chunk(bytes: Uint8Array): Uint8Array[] {
  const length = Buffer.alloc(4);
  length.writeUInt32BE(bytes.length);
  return [length, bytes];
}
export const END: Uint8Array = new Uint8Array(4);

async function feed(stdin: Outflow, input: Input): Promise<void> {
  for await (const bytes of input) {
    try {
      await stdin.write(bytes);
    } catch {
      // It reads no more: its answer says why.
      return;
    }
  }
  stdin.close();
}

/** The input's own fault, with what became of it. */
function blamed(reason: unknown, [, , message]: readonly Buffer[]): unknown {
  if (reason instanceof AleError) return reason;
  if (!(reason instanceof FileFault))
    return new AleError(
      "source-failed",
      `what was to be written could not be read: ${(reason as Error)?.message ?? reason}`,
      {
        next: "nothing of it is in the sandbox; try again with a source that works",
        cause: reason,
      },
    );
  const rest = /; \d+ entr(?:y is|ies are) in place/.exec(String(message ?? ""))?.[0] ?? "";
  return new FileFault({ ...reason.error, message: `${reason.error.message ?? ""}${rest}` });
}

function refusal([type, path, message]: readonly Buffer[], asked: string): FileFault {
  const known = ERROR_TYPES.find((one) => one === String(type)) ?? "unsafe-path";
  const where = String(path ?? "") || asked;
  const why = String(message ?? "").trim();
  return new FileFault({ type: known, path: where, ...(why === "" ? {} : { message: why }) });
}

function busy(why: string): AleError {
  return new AleError("sandbox-busy", `the sandbox could not work on its files: ${why}`, {
    next: "it is at its process limit: end what runs in it (killAgentProcesses), or raise limits.pids",
  });
}
