import { readdirSync, readFileSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { makeTask, type Task } from "@ale/bench";
import { AleError, Instance, readEpisodeLog, type SandboxFile, Split } from "@ale/core";
import { openWorkbench, runDirectory, runEpisode } from "@ale/roll";
import { defineUsage, oneOf, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { MODEL_OPTIONS, modelSource } from "../model-source.ts";
import { renderEpisode } from "../show.ts";

const usage = defineUsage({
  positionals: "[INSTRUCTION]",
  options: {
    ...MODEL_OPTIONS,
    task: {
      type: "string",
      value: "FAMILY[/SPLIT[/SEED]]",
      help: "a task of a family instead of an instruction",
    },
    files: {
      type: "string",
      value: "DIR",
      help: "with an instruction: put a copy of this folder into the sandbox",
    },
    seed: { type: "string", value: "N", help: "seed of the sampling (default 1)" },
  },
  notes: `
One episode in a sandbox without a network, recorded like any other. With --task the verifier judges it; an instruction of your own
is not judged. The folder of --files is copied: nothing on this machine is ever changed.

example: ale run --task vault/heldout/7 --run quickstart-1`,
});

const MAX_FILES_BYTES = 4 * 2 ** 20;

export const run: Command = {
  name: "run",
  summary: "let the agent do one task, in a sandbox, and follow it",
  usage,
  async run(argv, io, signal) {
    const { values, positionals } = parseArguments(usage, argv);
    const [instruction] = positionals;
    if ((instruction === undefined) === (values.task === undefined))
      throw usageError(
        "an instruction or --task is needed, and not both",
        "ale run --task vault, or ale run 'max col 2 of moss to newt' --files DIR",
      );
    if (values.files !== undefined && instruction === undefined)
      throw usageError("--files goes with an instruction");
    const task = instruction === undefined ? familyTask(values.task!) : ownTask(instruction, values.files);
    const source = modelSource(io.home, values);
    const directory = runDirectory(io.home, "run");
    await using bench = await openWorkbench(
      {
        home: io.home,
        modelDirectories: [source.modelDirectory],
        stateDir: source.stateDir ?? join(directory, "checkpoints"),
      },
      signal,
    );
    const deps = await bench.episodeDeps(source.modelDirectory, join(directory, "episodes"));
    const upstream = await bench.sampler(source.modelDirectory, source.checkpoint, source.version, signal);
    const { trajectory, head } = await runEpisode(
      deps,
      {
        task,
        purpose: "user",
        run: "run",
        group: null,
        judged: instruction === undefined,
        actor: {
          type: "policy",
          upstream: { ...upstream, model: source.name },
          version: source.version,
          seed: wholeNumber("--seed", values.seed) ?? 1,
        },
      },
      signal,
    );
    const log = await readEpisodeLog(deps.store.path(trajectory.episode));
    for (const line of renderEpisode(log, { width: io.width, paint: io.paint, maxLines: 20 })) io.print(line);
    io.result({
      episode: trajectory.episode,
      head,
      reward: trajectory.verdict?.reward ?? null,
      termination: trajectory.termination,
      alerts: trajectory.alerts,
    });
    return EXIT.ok;
  },
};

function familyTask(text: string): Task {
  const [family = "", split, seed] = text.split("/");
  return makeTask(
    family,
    oneOf("--task", split, Split.options) ?? "heldout",
    wholeNumber("--task", seed) ?? 0,
  );
}

/** A task of the user's own: an instruction and some files, without a verifier. */
function ownTask(instruction: string, folder: string | undefined): Task {
  const instance = Instance.parse({
    schema: "ale/instance@1",
    id: "own",
    family: "own",
    domain: "software-engineering",
    split: "train",
    seed: 0,
    instruction,
    image: "ale/base",
    workdir: "/work",
    files: folder === undefined ? [] : filesBelow(resolve(folder)),
    limits: {},
    network: { mode: "none" },
    verifier: { files: [] },
    referenceChunks: 1,
  });
  return { instance, plan: [], mutants: [], shortcut: null };
}

function filesBelow(folder: string): SandboxFile[] {
  const files: SandboxFile[] = [];
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
          next: "name a smaller folder",
        });
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
    throw usageError(`--files: ${folder} cannot be read`, String(cause));
  }
  return files;
}
