import type { ExecRequest, Process } from "@ale/rock";
import { defineUsage, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import type { Io } from "../io.ts";
import { withRock } from "../rock/client.ts";
import { parseWithCommand } from "../rock/command-after.ts";
import { pairs, parseDuration } from "../rock/format.ts";
import {
  attachTerminal,
  copy,
  handedOn,
  KILLED,
  TIMED_OUT,
  takeInterrupts,
  terminalSize,
} from "../rock/terminal.ts";

const usage = defineUsage({
  positionals: "ID COMMAND...",
  options: {
    tty: { type: "boolean", short: "t", help: "in a terminal of its own" },
    interactive: {
      type: "boolean",
      short: "i",
      help: "pass what is typed (a file or a pipe is always passed)",
    },
    user: { type: "string", short: "u", value: "USER", help: "name or uid[:gid]" },
    workdir: { type: "string", short: "w", value: "DIR", help: "where it begins" },
    env: { type: "string", short: "e", multiple: true, value: "K=V", help: "environment; may be repeated" },
    timeout: { type: "string", value: "TIME", help: "ended after so long, e.g. 90s" },
  },
  notes: `
Exits with the program's own exit code (124 where the time was up, 137 where it was killed). Everything after ID is the
program's; write -- before it where it has options that ale knows too. Ctrl-C interrupts the program, a second one kills it.
Under --json the output is collected and nothing is passed to the program.
example: tar -c src | ale rock exec ID -- tar -x -C /work`,
});

export const rockExec: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, id, command } = parseWithCommand(usage, argv);
    if (command.length === 0) throw usageError("COMMAND is missing", `ale rock exec ${id} -- uname -a`);
    if (command[0]!.startsWith("-"))
      throw usageError(`${command[0]} is no program`, `options of ale come before ${id}`);
    const env = pairs("--env", values.env);
    const timeoutMs = parseDuration("--timeout", values.timeout);
    const request: ExecRequest = {
      argv: command,
      ...(values.user === undefined ? {} : { user: values.user }),
      ...(values.workdir === undefined ? {} : { cwd: values.workdir }),
      ...(env === undefined ? {} : { env }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    };
    return withRock(io, async (client) => {
      const sandbox = await client.sandboxes.attach(id);
      if (io.json) {
        const done = await sandbox.exec(request, signal);
        io.result({ ok: done.exitCode === 0, ...done });
        return done.exitCode ?? (done.timedOut ? TIMED_OUT : KILLED);
      }
      if (values.tty) {
        const program = await sandbox.start({ ...request, tty: terminalSize(), stdin: true });
        const ended = await attachTerminal(program);
        if (ended.type === "exited") return handedOn(ended.exit, io, "\r\n");
        io.note("detached: the program was ended");
        return KILLED;
      }
      const stdin = values.interactive || process.stdin.isTTY !== true;
      return stream(await sandbox.start({ ...request, stdin }), stdin, io, signal);
    });
  },
};

async function stream(program: Process, stdin: boolean, io: Io, signal: AbortSignal): Promise<number> {
  using _ = takeInterrupts((count) => {
    program.signal(count === 1 ? "SIGINT" : "SIGKILL").catch(() => {});
  });
  const end = (): void => void program.signal("SIGTERM").catch(() => {});
  signal.addEventListener("abort", end, { once: true });
  const feeding = stdin ? feed(program) : undefined;
  try {
    await Promise.all([copy(program.stdout, process.stdout), copy(program.stderr, process.stderr)]);
    const exit = await program.exit;
    return handedOn(exit, io);
  } finally {
    signal.removeEventListener("abort", end);
    if (feeding !== undefined) process.stdin.destroy();
    await feeding;
  }
}

/** Until it ends, or the program no longer reads. */
async function feed(program: Process): Promise<void> {
  try {
    for await (const chunk of process.stdin) await program.write(chunk as Buffer);
    await program.closeStdin();
  } catch {
    // The program has ended, which `exit` tells, or our own end was closed.
  }
}
