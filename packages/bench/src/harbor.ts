import { chmod, mkdir, writeFile } from "node:fs/promises";
import { dirname, join, relative, resolve } from "node:path";
import type { InstallSpec, Instance } from "@ale/core";
import type { Action, Task } from "./family.ts";
import { harborNetworkLines } from "./harbor-network.ts";

/**
 * Writes a task as a Harbor task directory (format 1.4), so that people and other tools can look at it: instruction.md, task.toml,
 * environment/, tests/ and solution/. Reading Harbor tasks is another matter. The reference solution is written for the observations
 * that the reference solution itself makes, so it is a list of commands without decisions.
 */

const CATEGORY_TIMEOUT_SEC = 600;

/** Makes the files, does not write them: path relative to the task directory, text, executable or not. */
export function harborFiles(
  task: Task,
  actions: readonly Action[],
): { readonly path: string; readonly content: string; readonly executable: boolean }[] {
  const { instance } = task;
  const plain = (path: string, content: string) => ({ path, content, executable: false });
  return [
    plain("instruction.md", `${instance.instruction}\n`),
    plain("task.toml", taskToml(task)),
    plain("environment/Dockerfile", dockerfile(instance)),
    ...instance.files.map((file) => plain(`environment/files${file.path}`, file.content)),
    ...instance.verifier.files.map((file) => ({
      path: `tests/${relative("/tests", file.path)}`,
      content: file.content,
      executable: true,
    })),
    { path: "solution/solve.sh", content: solution(instance.workdir, actions), executable: true },
  ];
}

/** Throws as `node:fs` does. Existing files are replaced, others in the directory left alone. */
export async function writeHarborTask(
  directory: string,
  task: Task,
  actions: readonly Action[],
): Promise<void> {
  for (const { path, content, executable } of harborFiles(task, actions)) {
    const target = resolve(join(directory, path));
    await mkdir(dirname(target), { recursive: true });
    await writeFile(target, content);
    await chmod(target, executable ? 0o755 : 0o644);
  }
}

function taskToml({ instance }: Task): string {
  const text = JSON.stringify; // A JSON string is a TOML basic string.
  const network = harborNetworkLines(instance.network, instance.networkPhases);
  const lines = (of: readonly string[]): string => of.map((line) => `${line}\n`).join("");
  return `schema_version = "1.4"

[task]
name = ${text(`ale/${instance.id.replaceAll("/", "-")}`)}
description = ${text(instance.instruction)}
keywords = [${text(instance.family)}, ${text(instance.domain)}]

[metadata]
category = ${text(instance.domain)}
reference_chunks = ${instance.referenceChunks}

[agent]
timeout_sec = ${CATEGORY_TIMEOUT_SEC}.0
user = "agent"
${lines(network.agent)}
[verifier]
timeout_sec = ${(instance.verifier.timeoutMs / 1000).toFixed(1)}
user = "root"
${lines(network.verifier)}
[environment]
${lines(network.environment)}cpus = ${Math.ceil(instance.limits.cpus)}
memory_mb = ${Math.ceil(instance.limits.memoryBytes / 2 ** 20)}
storage_mb = ${Math.max(1024, Math.ceil(instance.limits.diskBytes / 2 ** 20))}
workdir = ${text(instance.workdir)}
`;
}

/** Harbor has no step between the environment and the agent: what is installed there is part of the image, where its builder reaches what it likes. */
function dockerfile({ workdir, files, install }: Instance): string {
  const copies = files.map(
    ({ path, mode, owner }) =>
      `COPY --chown=${owner}:${owner} --chmod=${mode.toString(8).padStart(4, "0")} ["files${path}", "${path}"]`,
  );
  return `FROM debian:stable-slim
RUN useradd --create-home --uid 1000 agent && mkdir -p ${workdir} && chown agent:agent ${workdir}
${copies.join("\n")}
WORKDIR ${workdir}
${installLines(install)}`;
}

function installLines(install: InstallSpec | undefined): string {
  if (install === undefined) return "";
  const given = Object.entries(install.env).map(([name, value]) => `export ${name}=${quoted(value)}; `);
  const lines = install.commands.flatMap(({ command, user }) => [
    `USER ${user}`,
    `RUN ${JSON.stringify(["/bin/bash", "-c", given.join("") + command])}`,
  ]);
  return [...lines, "USER root", ""].join("\n");
}

const quoted = (value: unknown): string => `'${String(value).replaceAll("'", `'\\''`)}'`;

/** Tools as shell commands; the replacement of `edit` uses bash's own, literal on both sides. */
function solution(workdir: string, actions: readonly Action[]): string {
  const lines = actions.flatMap(({ name, arguments: args }): string[] => {
    switch (name) {
      case "bash":
        return [String(args.command)];
      case "read":
        return [`cat -- ${quoted(args.path)}`];
      case "write":
        return [`printf %s ${quoted(args.content)} > ${quoted(args.path)}`];
      case "edit":
        return [`replace_once ${quoted(args.path)} ${quoted(args.old)} ${quoted(args.new)}`];
      default:
        return [];
    }
  });
  const helper = `replace_once() {
  local text
  text=$(cat -- "$1"; echo .)
  text=\${text%.}
  printf %s "\${text/"$2"/"$3"}" > "$1"
}
`;
  const used = lines.some((line) => line.startsWith("replace_once")) ? helper : "";
  return `#!/bin/bash\n${used}cd ${quoted(workdir)} || exit 1\n${lines.join("\n")}\n`;
}
