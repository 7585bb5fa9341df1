export { type Invocation, runCli } from "./cli.ts";
export type { Action, Command } from "./command.ts";
export { EXIT, type ExitCode } from "./exit-codes.ts";
export type { Io } from "./io.ts";
export type { Out } from "./out.ts";
