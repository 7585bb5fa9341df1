import type { Process, ProcessExit, TerminalSize } from "@ale/rock";
import type { Io } from "../io.ts";

/** This process's own terminal, lent to a program in a sandbox. */

/** Ctrl-], as telnet has it. */
const DETACH = 0x1d;

export const terminalSize = (): TerminalSize => ({
  cols: Math.max(1, process.stdout.columns ?? 80),
  rows: Math.max(1, process.stdout.rows ?? 24),
});

export type Attached =
  | { readonly type: "exited"; readonly exit: ProcessExit }
  | { readonly type: "detached" };

/** As timeout(1) has it. */
export const TIMED_OUT = 124;
export const KILLED = 137;

/** The exit code that a command hands on. What ended a program that did not end by itself is said. */
export function handedOn(exit: ProcessExit, io: Io, newLine = ""): number {
  if (exit.reason === "sandbox-gone") io.note(`${newLine}the sandbox ended`);
  if (exit.reason === "timeout") io.note(`${newLine}the time was up`);
  return exit.exitCode ?? (exit.reason === "timeout" ? TIMED_OUT : KILLED);
}

/** Ends with the program or with the detach key. The terminal is as it was afterwards, whatever happens. */
export async function attachTerminal(program: Process): Promise<Attached> {
  const { stdin, stdout } = process;
  const detached = Promise.withResolvers<Attached>();
  const onData = (chunk: Buffer): void => {
    const at = chunk.indexOf(DETACH);
    const typed = at < 0 ? chunk : chunk.subarray(0, at);
    if (typed.length > 0) program.write(typed).catch(() => {});
    if (at >= 0) detached.resolve({ type: "detached" });
  };
  const onEnd = (): void => void program.closeStdin().catch(() => {});
  const onResize = (): void => void program.resize(terminalSize()).catch(() => {});
  const restore = (): void => {
    if (stdin.isTTY) stdin.setRawMode(false);
  };
  process.on("exit", restore);
  if (stdin.isTTY) stdin.setRawMode(true);
  stdin.on("data", onData).on("end", onEnd).resume();
  stdout.on("resize", onResize);
  try {
    const ended = copy(program.stdout, stdout).then(
      async (): Promise<Attached> => ({ type: "exited", exit: await program.exit }),
    );
    return await Promise.race([ended, detached.promise]);
  } finally {
    stdin.off("data", onData).off("end", onEnd).pause();
    stdout.off("resize", onResize);
    restore();
    process.off("exit", restore);
  }
}

/** In order, no faster than it is taken. */
export async function copy(from: AsyncIterable<Uint8Array>, to: NodeJS.WritableStream): Promise<void> {
  for await (const chunk of from)
    if (!to.write(chunk)) await new Promise((resolve) => to.once("drain", resolve));
}

/** Ctrl-C is for the program inside as long as this is held; each one calls `handler` with its number from 1. */
export function takeInterrupts(handler: (count: number) => void): Disposable {
  const others = process.listeners("SIGINT");
  let count = 0;
  const ours = (): void => handler(++count);
  for (const listener of others) process.off("SIGINT", listener);
  process.on("SIGINT", ours);
  return {
    [Symbol.dispose]: () => {
      process.off("SIGINT", ours);
      for (const listener of others) process.on("SIGINT", listener);
    },
  };
}
