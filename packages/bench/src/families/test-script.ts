/**
 * The verifier of a generated task: one bash script without dependencies. It writes 0 to the reward file before it looks at
 * anything and 1 only after every check passed, so that each way out leaves a number; prints `PASS name` or `FAIL name` for each
 * check; and never follows what the agent may have planted (links, pipes, endless files).
 */

export type Check =
  /** A regular file with exactly this text, final newlines aside. */
  | { readonly type: "holds"; readonly name: string; readonly path: string; readonly text: string }
  | { readonly type: "absent"; readonly name: string; readonly path: string }
  /** Permission bits, e.g. 0o600. */
  | { readonly type: "mode"; readonly name: string; readonly path: string; readonly mode: number }
  /** A script in the working directory ends with exit code 0 within a second when the agent's user runs it. */
  | { readonly type: "runs"; readonly name: string; readonly path: string };

export const holds = (path: string, text: string, name = path): Check => ({
  type: "holds",
  name,
  path,
  text,
});
export const absent = (path: string): Check => ({ type: "absent", name: `no-${path}`, path });
export const hasMode = (path: string, mode: number): Check => ({
  type: "mode",
  name: `mode-${path}`,
  path,
  mode,
});
export const runs = (path: string): Check => ({ type: "runs", name: path, path });

const HEAD = `#!/bin/bash
# Prints PASS or FAIL for each check and leaves 0 or 1 in the reward file, whatever happens.
reward=/logs/verifier/reward.txt
echo 0 > "$reward"
all=1
check() { if "\${@:2}"; then echo "PASS $1"; else echo "FAIL $1"; all=0; fi; }
`;

/** Only what a script uses is defined in it. */
const HELPERS: Readonly<Record<Check["type"], string>> = {
  holds: `holds() {
  local text=
  [[ -f $1 && ! -L $1 ]] || return 1
  IFS= read -r -d '' -n 4096 text < "$1"
  while [[ $text == *$'\\n' ]]; do text=\${text%$'\\n'}; done
  [[ $text == "$2" ]]
}
`,
  absent: `absent() { [[ ! -e $1 && ! -L $1 ]]; }
`,
  mode: `has_mode() { [[ -f $1 && ! -L $1 && $(stat -c %a -- "$1") == "$2" ]]; }
`,
  // Never as root: what runs here was written by the agent.
  runs: `runs() {
  timeout -k 1 1 setpriv --reuid=agent --regid=agent --clear-groups --no-new-privs sh "./$1" < /dev/null > /dev/null 2>&1
}
`,
};

/** Single quotes for bash; the text may contain anything but NUL. */
const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;

function line(check: Check): string {
  const head = `check ${quoted(check.name)}`;
  switch (check.type) {
    case "holds":
      return `${head} holds ${quoted(check.path)} ${quoted(check.text.replace(/\n+$/, ""))}`;
    case "absent":
      return `${head} absent ${quoted(check.path)}`;
    case "mode":
      return `${head} has_mode ${quoted(check.path)} ${check.mode.toString(8)}`;
    case "runs":
      return `${head} runs ${quoted(check.path)}`;
  }
}

/** Paths of checks are relative to `workdir`. */
export function testScript(workdir: string, checks: readonly Check[]): string {
  const used = new Set(checks.map((check) => check.type));
  const helpers = [...used].map((type) => HELPERS[type]).join("");
  return `${HEAD}${helpers}cd ${quoted(workdir)} || exit\n${checks.map(line).join("\n")}\necho $all > "$reward"\n`;
}
