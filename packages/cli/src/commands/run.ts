import { join } from "node:path";
import type { Task } from "@ale/bench";
import { AleError, type Approver, denyAll, type Event, policyAfter, type Trajectory } from "@ale/core";
import { approvalsOf } from "@ale/guard";
import { refuseTooWide } from "@ale/rock";
import { openWorkbench, rulesWith, runDirectory, runEpisode, type Watch, watchEverything } from "@ale/roll";
import { ASK, approveWithin, toolsToAsk } from "../approvals.ts";
import { defineUsage, parseArguments, usageError, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { reportFailure } from "../errors.ts";
import { EXIT } from "../exit-codes.ts";
import { type HeldLines, heldLines } from "../held-lines.ts";
import type { Io } from "../io.ts";
import { MODEL_OPTIONS, modelSource } from "../model-source.ts";
import {
  allowlistOption,
  MODEL_GATEWAY_OPTION,
  modelGatewayOption,
  NETWORK_OPTIONS,
  networkOption,
} from "../network-options.ts";
import { unenforced, WITHOUT_LIMIT } from "../rock/without-limit.ts";
import { familyTask, ownTask } from "../run-task.ts";
import { removedIfEmpty } from "../runs.ts";
import { renderLive } from "../show.ts";
import { terminalApprover } from "../terminal-approver.ts";

const usage = defineUsage({
  positionals: "[INSTRUCTION]",
  options: {
    ...MODEL_OPTIONS,
    ...WITHOUT_LIMIT,
    task: {
      type: "string",
      value: "FAMILY[/SPLIT[/SEED]]",
      help: "a task of a family instead of an instruction",
    },
    files: {
      type: "string",
      value: "DIR",
      help: "with an instruction: put a copy of this folder's text files into the sandbox; links are left out",
    },
    seed: { type: "string", value: "N", help: "seed of the sampling (default 1)" },
    ...NETWORK_OPTIONS,
    "model-gateway": MODEL_GATEWAY_OPTION,
    install: {
      type: "string",
      value: "COMMAND",
      multiple: true,
      help: "with an instruction: run this as root before the agent begins",
    },
    "install-allow": {
      type: "string",
      value: "HOST[:PORT]",
      multiple: true,
      help: "what --install may reach, and the agent may not (default: what the agent may)",
    },
    rules: {
      type: "string",
      value: "PATH",
      multiple: true,
      help: "watch with these rules too: a YAML file, or the YAML files of a folder",
    },
    ask: ASK,
    "approve-within": {
      type: "string",
      value: "SECONDS",
      help: "how long an approval is waited for (default 600 on a terminal; elsewhere 0: refused at once)",
    },
  },
  notes: `
One episode, recorded like any other, and told while it happens. The sandbox has no network unless --network or the task gives it one. With
--task the verifier judges it; an instruction of your own is not judged. The folder of --files is copied: nothing on this machine is ever
changed. What --install does is in the log, is no chunk of the agent's, and ends the episode as a fault of the environment where it fails.

Guard does what its rules ask for: it warns the agent, refuses calls, asks you, ends the episode. An approval is asked for on this terminal,
and can be given from another one with ale guard approve.

example: ale run --task vault/heldout/7 --run quickstart-1
example: ale run "count the words of notes.txt with polars" --files . --install "pip install polars" --install-allow pypi.org --install-allow files.pythonhosted.org`,
});

export const run: Action = {
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
    if (values.install !== undefined && instruction === undefined)
      throw usageError("--install goes with an instruction; a task brings its own");
    if (values["install-allow"] !== undefined && values.install === undefined)
      throw usageError("--install-allow goes with --install");
    const chosen =
      instruction === undefined
        ? familyTask(values.task!)
        : ownTask(instruction, { folder: values.files, install: values.install });
    const network = networkOption(values);
    const egress = modelGatewayOption(values["model-gateway"]);
    if (network?.mode === "gateway-only" && egress.modelGateway === undefined)
      throw usageError(
        "--network gateway-only: nobody said where the model gateway is",
        "--model-gateway 127.0.0.1:8100",
      );
    const install = allowlistOption("--install-allow", values["install-allow"]);
    // Before an engine is started for nothing.
    for (const policy of [network, install]) if (policy !== undefined) refuseTooWide(policy);
    const task: Task = {
      ...chosen,
      instance: {
        ...chosen.instance,
        network: policyAfter(network, chosen.instance.network),
        ...(install === undefined ? {} : { networkPhases: { ...chosen.instance.networkPhases, install } }),
      },
    };
    if (
      values["approve-within"] !== undefined &&
      values.ask === undefined &&
      task.instance.guard?.ask === undefined
    )
      io.note(
        "--approve-within: only what rules ask approval for will wait; --ask bash makes every call of bash wait",
      );
    const lines = heldLines((line) => io.print(line));
    const watch = watchOf(values, io, lines);
    const source = modelSource(io.home, values);
    const directory = runDirectory(io.home, "run");
    using _swept = removedIfEmpty(directory);
    await using bench = await openWorkbench(
      {
        home: io.home,
        unenforced: unenforced(values),
        egress,
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
        watch,
        onEvent: follower(io, lines, isAskedHere(watch, io)),
      },
      signal,
    );
    io.print(io.paint("dim", `${deps.store.path(trajectory.episode)}  ${head}`));
    const outcome = {
      episode: trajectory.episode,
      head,
      reward: trajectory.verdict?.reward ?? null,
      termination: trajectory.termination,
      alerts: trajectory.alerts,
    };
    const fault = environmentFault(trajectory);
    if (fault !== undefined) return reportFailure(fault, io, outcome);
    io.result(outcome);
    return EXIT.ok;
  },
};

/** What failed was not the agent: its sandbox, its install step, or its verifier. */
function environmentFault({ episode, faults, verdict, termination }: Trajectory): AleError | undefined {
  if (termination !== "environment-fault" && verdict?.reward !== null) return undefined;
  const detail = faults.at(-1)?.detail ?? verdict?.environmentFault;
  const why = detail === undefined ? "" : `: ${detail}`;
  return new AleError("episode-fault", `the environment failed, not the agent${why}`, {
    next: `mend it and run the same command again; ale episodes show ${episode} tells what happened`,
  });
}

const OBSERVATION_LINES = 20;

/** Whether question and answer stand on the terminal on which the episode is followed, and need not be told a second time. */
const isAskedHere = ({ approver }: Watch, io: Io): boolean =>
  io.terminal !== undefined && io.columns !== undefined && approver !== denyAll;

/** Prints an episode while it happens. */
function follower(io: Io, lines: HeldLines, withoutApprovals: boolean): (event: Event) => void {
  const began = performance.now();
  const options = { width: Math.min(io.width, 110), paint: io.paint, maxLines: OBSERVATION_LINES };
  return (event) => {
    if (withoutApprovals && (event.type === "approval.request" || event.type === "approval.answer")) return;
    for (const line of renderLive(event, performance.now() - began, options)) lines.print(line);
  };
}

interface WatchOptions {
  readonly rules: readonly string[] | undefined;
  readonly ask: readonly string[] | undefined;
  readonly "approve-within": string | undefined;
}

/** Everything, with the user's own rules; who is asked depends on who is there. */
function watchOf(values: WatchOptions, io: Io, lines: HeldLines): Watch {
  return {
    ...watchEverything(),
    rules: rulesWith(values.rules ?? []),
    askFor: toolsToAsk(values),
    approver: approverOf(values, io, lines),
  };
}

const ON_TERMINAL_S = 600;

function approverOf(values: WatchOptions, io: Io, lines: HeldLines): Approver {
  const seconds = approveWithin(values) ?? (io.terminal === undefined ? 0 : ON_TERMINAL_S);
  if (seconds === 0) return denyAll;
  const store = approvalsOf(io.home, seconds * 1_000);
  return io.terminal === undefined ? store : terminalApprover(store, io, io.terminal, lines);
}
