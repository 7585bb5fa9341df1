import { isUtf8 } from "node:buffer";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { makeTask, type Task } from "@ale/bench";
import { AleError, Instance, type SandboxFile, Split } from "@ale/core";
import { oneOf, usageError, wholeNumber } from "./args.ts";

/** What `ale run` lets the agent do: a task of a family, or an instruction of the user's own. */

const MAX_FILES_BYTES = 4 * 2 ** 20;

export function familyTask(text: string): Task {
  const [family = "", split, seed, ...more] = text.split("/");
  if (more.length > 0)
    throw usageError(`--task: ${JSON.stringify(text)} is more than a task`, "--task FAMILY[/SPLIT[/SEED]]");
  return makeTask(
    family,
    oneOf("--task", split, Split.options) ?? "heldout",
    wholeNumber("--task", seed) ?? 0,
  );
}

/** A task of the user's own: an instruction and some files, without a verifier. */
export function ownTask(
  instruction: string,
  {
    folder,
    install,
  }: { readonly folder?: string | undefined; readonly install?: readonly string[] | undefined },
): Task {
  const instance = Instance.parse({
    schema: install === undefined ? "ale/instance@1" : "ale/instance@2",
    id: "own",
    family: "own",
    domain: "software-engineering",
    split: "train",
    seed: 0,
    instruction,
    image: "ale/base",
    workdir: "/work",
    files: folder === undefined ? [] : filesBelow(resolve(folder)),
    // What is installed takes time and room of its own.
    limits:
      install === undefined
        ? {}
        : { lifetimeMs: 900_000, memoryBytes: 2 ** 30, diskBytes: 2 ** 30, pids: 256 },
    network: { mode: "none" },
    ...(install === undefined
      ? {}
      : { install: { commands: install.map((command) => ({ command })), timeoutMs: 600_000 } }),
    verifier: { files: [] },
    referenceChunks: 1,
  });
  return { instance, plan: [], mutants: [], shortcut: null };
}

/** Of a folder, or of something in it. */
const UNREADABLE: Readonly<Record<string, string>> = {
  ENOENT: "is not there",
  ENOTDIR: "is no folder",
  EACCES: "cannot be read: permission denied",
  EPERM: "cannot be read: not permitted",
  ELOOP: "cannot be read: its links lead in a circle",
  ENAMETOOLONG: "is too long a name",
};

function filesBelow(folder: string): SandboxFile[] {
  const files: SandboxFile[] = [];
  const binary: string[] = [];
  let bytes = 0;
  const visit = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const path = join(directory, entry.name);
      if (entry.isDirectory()) visit(path);
      if (!entry.isFile()) continue;
      const content = readFileSync(path);
      bytes += content.length;
      if (bytes > MAX_FILES_BYTES)
        throw new AleError("files-too-large", `${folder} holds more than ${MAX_FILES_BYTES / 2 ** 20} MiB`, {
          next: "name a folder with only what the task needs: --files DIR",
        });
      if (!isUtf8(content)) binary.push(path);
      files.push({
        path: `/work/${relative(folder, path)}`,
        content: content.toString("utf8"),
        mode: statSync(path).mode & 0o777,
        owner: "agent",
      });
    }
  };
  try {
    visit(folder);
  } catch (cause) {
    if (cause instanceof AleError) throw cause;
    const { code, path = folder } = cause as NodeJS.ErrnoException;
    const why = code === undefined ? undefined : UNREADABLE[code];
    if (why === undefined) throw cause;
    throw usageError(`--files: ${path} ${why}`, "name a folder that you can read: --files DIR");
  }
  if (binary[0] !== undefined)
    throw usageError(
      `--files: ${binary[0]} is no UTF-8 text, and would arrive as something else`,
      "leave it out, or bring it in another way: an image of your own, or --install",
    );
  return files;
}
