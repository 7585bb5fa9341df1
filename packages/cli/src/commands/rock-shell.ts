import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { attachTerminal, handedOn, terminalSize } from "../rock/terminal.ts";

const usage = defineUsage({
  positionals: "ID",
  options: {
    user: { type: "string", short: "u", value: "USER", help: "name or uid[:gid] (default: the sandbox's)" },
    workdir: { type: "string", short: "w", value: "DIR", help: "where it begins" },
  },
  notes:
    "A login shell in this terminal. It ends with `exit`; Ctrl-] leaves it. The sandbox goes on either way.",
});

export const rockShell: Action = {
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    if (process.stdin.isTTY !== true)
      throw usageError(
        "this is no terminal",
        `run a program instead: ale rock exec ${positionals[0]} -- bash`,
      );
    return withRock(io, async (client) => {
      const sandbox = await client.sandboxes.attach(positionals[0]!);
      const options = {
        ...(values.user === undefined ? {} : { user: values.user }),
        ...(values.workdir === undefined ? {} : { cwd: values.workdir }),
      };
      const program = await sandbox.terminal(terminalSize(), options, signal);
      io.note(io.paint("dim", "Ctrl-] leaves the shell"));
      const ended = await attachTerminal(program);
      if (ended.type === "detached") {
        io.note(`\r\nleft; the sandbox goes on`);
        io.result(ended);
        return EXIT.ok;
      }
      const exitCode = handedOn(ended.exit, io, "\r\n");
      io.result({ type: ended.type, exitCode });
      return exitCode;
    });
  },
};
