import type { Sandbox } from "@ale/rock";
import type { Action } from "./family.ts";

/**
 * The five tools in their plainest form, for admission and measurements of bench itself. An agent's real tools live in `flow`; these
 * agree with them on what happens to files, not on every word that is shown.
 */

export interface ActionResult {
  /** What a policy would see. */
  readonly content: string;
  readonly isError: boolean;
}

/** What says how to run one action; `null` ends the run. Given everything that was observed so far. */
export type Actor = (observations: readonly string[]) => Action | null;

/** An actor that performs a fixed list of actions. */
export const scripted =
  (actions: readonly Action[]): Actor =>
  (observations) =>
    actions[observations.length] ?? null;

export async function executeAction(
  sandbox: Sandbox,
  action: Action,
  signal?: AbortSignal,
): Promise<ActionResult> {
  const text = (name: string): string => String(action.arguments[name] ?? "");
  switch (action.name) {
    case "bash": {
      const result = await sandbox.shell.run(text("command"), {}, signal);
      return { content: result.output, isError: result.exitCode !== 0 };
    }
    case "read":
      return cat(sandbox, text("path"), signal);
    case "write":
      return put(sandbox, text("path"), text("content"), signal);
    case "edit": {
      const before = await cat(sandbox, text("path"), signal);
      if (before.isError) return before;
      const parts = before.content.split(text("old"));
      if (text("old") === "" || parts.length !== 2)
        return { content: `found ${text("old") === "" ? 0 : parts.length - 1} times`, isError: true };
      return put(sandbox, text("path"), parts.join(text("new")), signal);
    }
    case "submit":
      return { content: "", isError: false };
    default:
      return { content: `no tool ${action.name}`, isError: true };
  }
}

export interface Execution {
  readonly actions: readonly Action[];
  /** One for each action. */
  readonly results: readonly ActionResult[];
}

/** Performs an actor's actions until it ends or submits. */
export async function executeActions(
  sandbox: Sandbox,
  actor: Actor | readonly Action[],
  signal?: AbortSignal,
): Promise<Execution> {
  const next = typeof actor === "function" ? actor : scripted(actor);
  const actions: Action[] = [];
  const results: ActionResult[] = [];
  const observations: string[] = [];
  for (let action = next(observations); action !== null; action = next(observations)) {
    const result = await executeAction(sandbox, action, signal);
    actions.push(action);
    results.push(result);
    observations.push(result.content);
    if (action.name === "submit") break;
  }
  return { actions, results };
}

async function cat(sandbox: Sandbox, path: string, signal?: AbortSignal): Promise<ActionResult> {
  const result = await sandbox.exec({ argv: ["cat", "--", path], user: "agent" }, signal);
  return { content: result.stdout + result.stderr, isError: result.exitCode !== 0 };
}

async function put(
  sandbox: Sandbox,
  path: string,
  content: string,
  signal?: AbortSignal,
): Promise<ActionResult> {
  const result = await sandbox.exec(
    { argv: ["/bin/sh", "-c", 'cat > "$0"', path], user: "agent", stdin: content },
    signal,
  );
  return { content: result.stderr, isError: result.exitCode !== 0 };
}
