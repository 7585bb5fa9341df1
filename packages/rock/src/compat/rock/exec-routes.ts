import { stripVTControlCharacters } from "node:util";
import type { Sandbox } from "../../port/sandbox.ts";
import type { SessionResult } from "../../port/session.ts";
import type { App } from "../../server/app.ts";
import type { RockContext } from "./context.ts";
import { badRequest, CODES, RockFailure } from "./envelope.ts";
import { hangsInInteractiveShell } from "./history-expansion.ts";
import { type NohupSubmission, parsePid, parseQuestion, parseSubmission } from "./nohup.ts";
import { awaitEnd, type NohupJob } from "./nohup-jobs.ts";
import { repr } from "./python-text.ts";
import { CloseSession, CreateSession, Execute, RunInSession } from "./requests.ts";
import { route } from "./route.ts";
import type { RockSession } from "./sessions.ts";

/** ROCK's programs: sessions and what runs in them, and programs that share nothing with any session. */

/** How long the start of a background job is held back to see whether it fails at once. The SDK waits 30 s. */
const SUBMIT_WAIT_MS = 2_000;
/** How long "is it alive?" is held back. The SDK gives up after 10 s at the earliest. */
const ALIVE_WAIT_MS = 4_000;
/** After a client's own timeout, so that it is the client who reports it. */
const TIMEOUT_GRACE_MS = 500;
/** What ROCK's shells print as a prompt; some clients look for it. */
const EXPECTED = "SHELLPS1PREFIX";

interface Observation {
  readonly session_type: "bash";
  readonly output: string;
  readonly exit_code: number | null;
  readonly failure_reason: string;
  readonly expect_string: string;
}

export function execRoutes(app: App, context: RockContext): void {
  const { service, sessions } = context;
  const common = { method: "POST", scope: "exec" } as const;
  route(
    app,
    context,
    { ...common, path: "/create_session", failure: "create session failed", schema: CreateSession },
    async ({ input, tenant, signal }) => {
      const output = await sessions.open(tenant, input, signal);
      return { output, session_type: "bash" };
    },
  );
  route(
    app,
    context,
    { ...common, path: "/close_session", failure: "close session failed", schema: CloseSession },
    async ({ input, tenant }) => {
      await sessions.close(tenant, input.sandbox_id, input.session);
      return { session_type: "bash" };
    },
  );
  route(
    app,
    context,
    { ...common, path: "/run_in_session", failure: null, schema: RunInSession },
    async ({ input, tenant, request, signal }) => {
      request.note({ argv: [input.command] });
      const sandbox = await service.use(tenant, input.sandbox_id, signal);
      const session = await sessions.get(tenant, input.sandbox_id, input.session, signal);
      session.busy++;
      try {
        return await run(context, sandbox, session, input, signal);
      } finally {
        session.busy--;
      }
    },
  );
  route(
    app,
    context,
    { ...common, path: "/execute", failure: "execute command failed", schema: Execute },
    async ({ input, tenant, request, signal }) => {
      const sandbox = await service.use(tenant, input.sandbox_id, signal);
      request.note({ argv: [input.command].flat() });
      return execute(sandbox, input, signal);
    },
  );
}

async function run(
  { options }: RockContext,
  sandbox: Sandbox,
  session: RockSession,
  input: RunInSession,
  signal: AbortSignal,
): Promise<Observation> {
  if (input.is_interactive_command || input.is_interactive_quit)
    throw badRequest("Interactive commands are not available in a session: attach a terminal instead");
  const { command } = input;
  if (options.quirks === true && hangsInInteractiveShell(command)) await hang(input.timeout ?? 85, signal);
  await refuseBadSyntax(sandbox, command, signal);
  const submission = parseSubmission(command);
  if (submission !== undefined) return submit(sandbox, session, input, submission, signal);
  const question = parseQuestion(command);
  const asked =
    question === undefined
      ? undefined
      : question.type === "alive"
        ? session.jobs.get(question.pid)
        : session.jobs.byOutput(question.file);
  if (asked !== undefined && question?.type === "alive")
    await awaitEnd(asked, sandbox, session.session, ALIVE_WAIT_MS, signal);
  const result = await runOnce(session, input, command, signal);
  // Not to be told to a client that has asked for the file's size only: it ignores every failure.
  if (asked !== undefined && question?.type === "size") asked.told = true;
  if (asked !== undefined && question?.type === "output") tell(asked, result);
  return observe(input, result);
}

async function runOnce(
  { session }: RockSession,
  { timeout }: RunInSession,
  command: string,
  signal: AbortSignal,
): Promise<SessionResult> {
  const timeoutMs = timeout == null ? undefined : timeout * 1_000 + TIMEOUT_GRACE_MS;
  const result = await session.run(command, timeoutMs === undefined ? {} : { timeoutMs }, signal);
  if (!result.timedOut) return result;
  throw new RockFailure(
    CODES.command,
    `Command ${repr(command)} timed out after ${timeout ?? "its"} seconds and was interrupted. Output so far:\n${repr(clean(result.output))}`,
  );
}

function observe({ check, command, error_msg: prefix }: RunInSession, result: SessionResult): Observation {
  const output = clean(result.output);
  const { exitCode } = result;
  if (check === "raise" && exitCode !== 0) {
    const message = `Command ${repr(command)} failed with exit code ${exitCode}. Here is the output:\n${repr(output)}`;
    throw new RockFailure(CODES.command, prefix === "" ? message : `${prefix}: ${message}`);
  }
  return observation(output, check === "ignore" ? null : exitCode);
}

const observation = (output: string, exitCode: number | null, reason = ""): Observation => ({
  session_type: "bash",
  output,
  exit_code: exitCode,
  failure_reason: reason,
  expect_string: EXPECTED,
});

/** As ROCK delivers output: without colours, and without white space at its ends. */
const clean = (output: string): string => stripVTControlCharacters(output).trim();

/** A job that fails at once is reported as what it is: the SDK passes on an answer with an exit code other than 0. */
async function submit(
  sandbox: Sandbox,
  session: RockSession,
  input: RunInSession,
  submission: NohupSubmission,
  signal: AbortSignal,
): Promise<Observation> {
  const result = await runOnce(session, input, submission.rewritten, signal);
  const pid = parsePid(result.output);
  if (pid === undefined || result.exitCode !== 0) return observe(input, result);
  const job = session.jobs.add(pid, submission);
  await awaitEnd(job, sandbox, session.session, SUBMIT_WAIT_MS, signal);
  if (!hasFailed(job)) return observe(input, result);
  job.told = true;
  const output = await runOnce(session, input, `cat ${submission.outputFile}`, signal);
  return observation(clean(output.output), job.exitCode!, failureOf(job));
}

const hasFailed = (job: NohupJob): boolean => typeof job.exitCode === "number" && job.exitCode !== 0;

const failureOf = (job: NohupJob): string =>
  `Command ${repr(job.command)} failed with exit code ${job.exitCode}`;

/** The SDK calls every finished job a success, unless reading its output fails: the one place where it can be told. Once for each job. */
function tell(job: NohupJob, result: SessionResult): void {
  if (job.told || !hasFailed(job)) return;
  job.told = true;
  throw new RockFailure(
    CODES.command,
    `${failureOf(job)}. Here is the output:\n${repr(clean(result.output))}`,
  );
}

/** A shell runs the lines before one that it cannot parse; ROCK's sessions run none of them. A single line is the shell's own to refuse. */
async function refuseBadSyntax(sandbox: Sandbox, command: string, signal: AbortSignal): Promise<void> {
  if (!command.trim().includes("\n")) return;
  const result = await sandbox.exec(
    { argv: ["/bin/bash", "-n", "/dev/stdin"], user: "root", cwd: "/", stdin: command, timeoutMs: 10_000 },
    signal,
  );
  if (result.exitCode === 0 || result.exitCode === null || result.exitCode === 127) return;
  throw new RockFailure(
    CODES.command,
    `Error (exit code ${result.exitCode}) while checking bash command \n${repr(command)}\n---- Stderr ----\n${result.stderr}\n---- Stdout ----\n${result.stdout}`,
  );
}

function hang(seconds: number, signal: AbortSignal): Promise<void> {
  const failure = new RockFailure(
    CODES.command,
    `The shell waited ${seconds} seconds for the rest of a command that history expansion had cut short`,
  );
  return new Promise((_, reject) => {
    const timer = setTimeout(() => reject(failure), seconds * 1_000 + TIMEOUT_GRACE_MS);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(failure);
    });
  });
}

async function execute(
  sandbox: Sandbox,
  input: Execute,
  signal: AbortSignal,
): Promise<{ stdout: string; stderr: string; exit_code: number | null }> {
  const argv =
    typeof input.command !== "string"
      ? input.command
      : input.shell
        ? ["/bin/bash", "-c", input.command]
        : [input.command];
  const result = await sandbox.exec(
    {
      argv,
      cwd: input.cwd ?? "/",
      env: input.env ?? {},
      ...(input.timeout == null ? {} : { timeoutMs: input.timeout * 1_000 }),
    },
    signal,
  );
  const shown = repr(argv.join(" "));
  if (result.timedOut)
    throw new RockFailure(CODES.command, `Command ${shown} timed out after ${input.timeout} seconds`);
  if (input.check && result.exitCode !== 0) {
    const message = `Command ${shown} failed with exit code ${result.exitCode}. Stdout:\n${repr(result.stdout)}\nStderr:\n${repr(result.stderr)}`;
    throw new RockFailure(CODES.command, input.error_msg ? `${input.error_msg}: ${message}` : message);
  }
  // ROCK takes a string for the name of a program, blanks and all, and says nothing when there is none.
  const hint =
    result.exitCode === 127 &&
    typeof input.command === "string" &&
    !input.shell &&
    input.command.includes(" ")
      ? "a string is the name of one program: pass a list of arguments, or set shell to true\n"
      : "";
  return { stdout: result.stdout, stderr: result.stderr + hint, exit_code: result.exitCode };
}
