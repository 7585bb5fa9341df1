/**
 * What a session is, apart from the process that holds it: enough to begin it again in another container that has its files. It is made
 * by the session's own shell, so nothing of it is trusted by the host: it is only ever given back to a shell of the same user in a
 * sandbox with the same files.
 *
 * For snapshots: `OciSandbox.captureShells()` before the container ends; then `OciSandbox.resume(container, states)` for a sandbox that goes
 * on in another container, or `new OciSandbox(container, spec, states)` for a fork. Sessions keep their ids.
 */
export interface ShellState {
  /** Of the session. */
  readonly id: string;
  /** As it was asked for when the session was opened; undefined for the sandbox's own user. */
  readonly user?: string | undefined;
  readonly cwd: string;
  /** bash source that brings back exported variables, functions, aliases, shell options, umask, directory and last status. One character a byte. */
  readonly script: string;
}

/** A larger state is not taken: the session then begins anew, in its first directory. */
export const MAX_STATE_BYTES = 1 << 20;

/** What a capture consists of: the directory and a NUL, then the script. */
export function parseShellState(
  id: string,
  user: string | undefined,
  captured: Uint8Array,
): ShellState | undefined {
  const end = captured.indexOf(0);
  if (end < 0 || captured.length > MAX_STATE_BYTES) return undefined;
  const script = Buffer.from(captured.subarray(end + 1)).toString("latin1");
  const cwd = new TextDecoder().decode(captured.subarray(0, end));
  return script.includes("\0") ? undefined : { id, user, cwd, script };
}

/** The same shells with other values of some exported variables. */
export function withEnvironment(
  states: readonly ShellState[],
  env: Readonly<Record<string, string>>,
): readonly ShellState[] {
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  const valid = Object.entries(env).filter(([name]) => /^[A-Za-z_][A-Za-z0-9_]*$/.test(name));
  const lines = valid.map(([name, value]) => `builtin export ${name}=${quoted(toBytes(value))}\n`);
  return states.map((state) => {
    // The script ends with the last command's status, which stays the last.
    const end = Math.max(0, state.script.lastIndexOf("__ale_status "));
    return { ...state, script: state.script.slice(0, end) + lines.join("") + state.script.slice(end) };
  });
}

/** One character a byte, as scripts are kept. */
const toBytes = (text: string): string => Buffer.from(text).toString("latin1");
