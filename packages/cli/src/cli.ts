import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { takeGlobals } from "./args.ts";
import type { Action } from "./command.ts";
import { COMMANDS } from "./commands.ts";
import { reportError, reportInterrupt } from "./errors.ts";
import { EXIT } from "./exit-codes.ts";
import { findCommand } from "./find-command.ts";
import { commandHelp, groupHelp, overview } from "./help.ts";
import { createIo, type In, type Io } from "./io.ts";
import type { Out } from "./out.ts";
import { refuseImpossibleHome } from "./out-files.ts";
import { softwareVersions } from "./versions.ts";

/** The streams and variables of one invocation. `main.ts` passes the process's own, tests pass theirs. */
export interface Invocation {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly stdout: Out;
  readonly stderr: Out;
  /** Left out: nobody types. */
  readonly stdin?: In;
  /** For commands that have sandboxes of their own: starts this program again where an ordinary user may have them. */
  readonly enterRootless?: () => Promise<void>;
}

/**
 * Runs one command line to its exit code. Never throws. When `signal` is aborted the command is given the chance to release
 * what it holds; `signal.reason` is the exit code to end with.
 */
export async function runCli(invocation: Invocation, signal: AbortSignal): Promise<number> {
  const { env, stdout, stderr, stdin } = invocation;
  let io = createIo({ home: homeOf(env, undefined), json: false, yes: false, env, stdout, stderr, stdin });
  let verbose = false;
  let goesOn = false;
  try {
    // Known before anything can fail, so that a wrong command line too is answered as JSON where that was asked for.
    const json = invocation.argv.includes("--json");
    io = createIo({ home: io.home, json, yes: false, env, stdout, stderr, stdin });
    const { globals, rest } = takeGlobals(invocation.argv);
    verbose = globals.verbose;
    const home = homeOf(env, globals.home);
    io = createIo({ home, json: globals.json, yes: globals.yes, env, stdout, stderr, stdin });
    const toldOf = (action: Action): void => {
      goesOn = action.goesOn === true;
    };
    return await dispatch(invocation, rest, globals.help, io, toldOf, signal);
  } catch (error) {
    if (signal.aborted) return reportInterrupt(exitCodeOfAbort(signal), goesOn, io);
    return reportError(error, io, verbose);
  } finally {
    io.progress.clear();
  }
}

async function dispatch(
  invocation: Invocation,
  words: readonly string[],
  help: boolean,
  io: Io,
  toldOf: (action: Action) => void,
  signal: AbortSignal,
): Promise<number> {
  if (words.length === 0 || (words.length === 1 && words[0] === "help")) {
    io.print(overview(COMMANDS).trimEnd());
    return help || words.length === 1 ? EXIT.ok : EXIT.usage;
  }
  if (words.length === 1 && words[0] === "--version") {
    const versions = await softwareVersions();
    io.print(`ale ${versions.ale} (node ${versions.node})`);
    io.result(versions);
    return EXIT.ok;
  }
  const found = findCommand(words[0] === "help" ? words.slice(1) : words);
  if (found.type === "group") {
    io.print(groupHelp(found.group, found.commands).trimEnd());
    return help || words[0] === "help" ? EXIT.ok : EXIT.usage;
  }
  const action = await found.command.load();
  toldOf(action);
  if (help || words[0] === "help") {
    io.print(commandHelp(found.command, action).trimEnd());
    return EXIT.ok;
  }
  refuseImpossibleHome(io.home);
  if (found.command.hosts) await invocation.enterRootless?.();
  const exitCode = await action.run(found.argv, io, signal);
  const interrupted = signal.aborted && action.endsBySignal !== true;
  return interrupted ? reportInterrupt(exitCodeOfAbort(signal), action.goesOn === true, io) : exitCode;
}

/** 0 where nobody reads any more what it says. */
const exitCodeOfAbort = ({ reason }: AbortSignal): number =>
  reason === EXIT.terminated || reason === EXIT.ok ? reason : EXIT.interrupted;

function homeOf(env: Invocation["env"], flag: string | undefined): string {
  return resolve(flag ?? (env.ALE_HOME || join(homedir(), ".ale")));
}
