import type { Command } from "./command.ts";

/** Every verb of `ale`, in the order in which the help shows them. */
export const COMMANDS: readonly Command[] = [
  {
    name: "quickstart",
    summary: "the closed loop at nano scale, with a report: start here",
    hosts: true,
    load: async () => (await import("./commands/quickstart.ts")).quickstart,
  },
  {
    name: "train",
    summary: "run a recipe: warm start, reinforcement, evaluation",
    hosts: true,
    load: async () => (await import("./commands/train.ts")).train,
  },
  {
    name: "run",
    summary: "let the agent do one task, in a sandbox, and follow it",
    hosts: true,
    load: async () => (await import("./commands/run.ts")).run,
  },
  {
    name: "bench run",
    summary: "measure a policy, or the reference solutions, on tasks",
    hosts: true,
    load: async () => (await import("./commands/bench-run.ts")).benchRun,
  },
  {
    name: "episodes ls",
    summary: "list recorded episodes, the newest first",
    load: async () => (await import("./commands/episodes-ls.ts")).episodesLs,
  },
  {
    name: "episodes show",
    summary: "follow one episode chunk by chunk: actions, observations, alerts, verdict",
    load: async () => (await import("./commands/episodes-show.ts")).episodesShow,
  },
  {
    name: "episodes verify",
    summary: "check the hash chains of recorded episodes; names the first broken line",
    load: async () => (await import("./commands/episodes-verify.ts")).episodesVerify,
  },
  {
    name: "episodes replay",
    summary: "run an episode's tool calls again in a fresh sandbox and compare the observations",
    hosts: true,
    load: async () => (await import("./commands/episodes-replay.ts")).episodesReplay,
  },
  {
    name: "runs prune",
    summary: "remove checkpoints that killed sittings left",
    load: async () => (await import("./commands/runs-prune.ts")).runsPrune,
  },
  {
    name: "guard incidents",
    summary: "list what was attempted, the newest first, with alarms from outside",
    load: async () => (await import("./commands/guard-incidents.ts")).guardIncidents,
  },
  {
    name: "guard show",
    summary: "follow one incident: alarm, episode, chunk, command, processes, packets",
    load: async () => (await import("./commands/guard-show.ts")).guardShow,
  },
  {
    name: "guard export",
    summary: "hand an incident over: one page and one JSON file that prove themselves",
    load: async () => (await import("./commands/guard-export.ts")).guardExport,
  },
  {
    name: "guard verify",
    summary: "check a log's chain, or a bundle against itself and its log",
    load: async () => (await import("./commands/guard-verify.ts")).guardVerify,
  },
  {
    name: "guard import",
    summary: "read alarms of a firewall or monitor, and match them to episodes",
    load: async () => (await import("./commands/guard-import.ts")).guardImport,
  },
  {
    name: "guard match",
    summary: "compare imported alarms that were not placed with what is recorded now",
    load: async () => (await import("./commands/guard-match.ts")).guardMatch,
  },
  {
    name: "guard rules",
    summary: "list the rules over telemetry: severity, response, technique",
    load: async () => (await import("./commands/guard-rules.ts")).list,
  },
  {
    name: "guard explain",
    summary: "what a rule looks for, why, and when an honest agent sets it off",
    load: async () => (await import("./commands/guard-rules.ts")).explain,
  },
  {
    name: "guard test",
    summary: "try the fixtures of all rules, yours among them",
    load: async () => (await import("./commands/guard-rules.ts")).test,
  },
  {
    name: "guard evidence ls",
    summary: "list what is kept of sandboxes in quarantine",
    hosts: true,
    load: async () => (await import("./commands/guard-evidence.ts")).list,
  },
  {
    name: "guard evidence release",
    summary: "say that evidence is needed no longer, and why",
    load: async () => (await import("./commands/guard-evidence.ts")).release,
  },
  {
    name: "guard evidence prune",
    summary: "remove the files of evidence that was released",
    hosts: true,
    load: async () => (await import("./commands/guard-evidence.ts")).prune,
  },
  {
    name: "guard approvals",
    summary: "list the tool calls that wait for a person's approval",
    load: async () => (await import("./commands/guard-approvals.ts")).list,
  },
  {
    name: "guard approve",
    summary: "let a tool call run that waits for approval",
    load: async () => (await import("./commands/guard-approvals.ts")).approve,
  },
  {
    name: "guard deny",
    summary: "refuse a tool call that waits for approval",
    load: async () => (await import("./commands/guard-approvals.ts")).deny,
  },
  {
    name: "rock serve",
    summary: "serve sandboxes to this machine and others",
    hosts: true,
    load: async () => (await import("./commands/rock-serve.ts")).rockServe,
  },
  {
    name: "rock create",
    summary: "make a sandbox and print its id",
    load: async () => (await import("./commands/rock-create.ts")).rockCreate,
  },
  {
    name: "rock ls",
    summary: "list sandboxes",
    load: async () => (await import("./commands/rock-ls.ts")).rockLs,
  },
  {
    name: "rock exec",
    summary: "run a program in a sandbox",
    load: async () => (await import("./commands/rock-exec.ts")).rockExec,
  },
  {
    name: "rock shell",
    summary: "a shell in a sandbox, in this terminal",
    load: async () => (await import("./commands/rock-shell.ts")).rockShell,
  },
  {
    name: "rock cp",
    summary: "copy files into a sandbox or out of it",
    hosts: true,
    load: async () => (await import("./commands/rock-cp.ts")).rockCp,
  },
  {
    name: "rock snapshot",
    summary: "keep the state of a sandbox's files",
    load: async () => (await import("./commands/rock-snapshot.ts")).take,
  },
  {
    name: "rock snapshot ls",
    summary: "list snapshots",
    load: async () => (await import("./commands/rock-snapshot.ts")).list,
  },
  {
    name: "rock snapshot rm",
    summary: "remove snapshots; sandboxes made from them go on",
    load: async () => (await import("./commands/rock-snapshot.ts")).remove,
  },
  {
    name: "rock fork",
    summary: "make sandboxes that begin where a snapshot was taken",
    load: async () => (await import("./commands/rock-snapshot.ts")).fork,
  },
  {
    name: "rock diff",
    summary: "say which files differ between two snapshots",
    load: async () => (await import("./commands/rock-snapshot.ts")).diff,
  },
  {
    name: "rock revert",
    summary: "take a sandbox back to a snapshot; its processes end",
    load: async () => (await import("./commands/rock-snapshot.ts")).revert,
  },
  {
    name: "rock logs",
    summary: "what became of a sandbox, and who asked what of it",
    load: async () => (await import("./commands/rock-logs.ts")).rockLogs,
  },
  {
    name: "rock events",
    summary: "what happens in a sandbox: programs, connections, refusals, files",
    load: async () => (await import("./commands/rock-events.ts")).rockEvents,
  },
  {
    name: "rock stats",
    summary: "what sandboxes use",
    load: async () => (await import("./commands/rock-stats.ts")).rockStats,
  },
  {
    name: "rock top",
    summary: "a live view of the sandboxes that run",
    load: async () => (await import("./commands/rock-top.ts")).rockTop,
  },
  {
    name: "rock network",
    summary: "show what may leave a sandbox, or change it while it runs",
    load: async () => (await import("./commands/rock-network.ts")).rockNetwork,
  },
  {
    name: "rock stop",
    summary: "end a sandbox's processes and keep its files",
    load: async () => (await import("./commands/rock-life.ts")).stop,
  },
  {
    name: "rock start",
    summary: "start a sandbox again that was stopped",
    load: async () => (await import("./commands/rock-life.ts")).start,
  },
  {
    name: "rock rm",
    summary: "remove sandboxes with everything in them",
    load: async () => (await import("./commands/rock-life.ts")).remove,
  },
  {
    name: "rock gc",
    summary: "remove what crashed sandboxes left",
    hosts: true,
    load: async () => (await import("./commands/rock-gc.ts")).rockGc,
  },
  {
    name: "rock reset",
    summary: "remove every sandbox and snapshot of this home, so that nothing of it is mounted",
    hosts: true,
    load: async () => (await import("./commands/rock-reset.ts")).rockReset,
  },
  {
    name: "rock image ls",
    summary: "list images and what they take on the disk",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).list,
  },
  {
    name: "rock image build",
    summary: "build an image from a Dockerfile",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).build,
  },
  {
    name: "rock image rm",
    summary: "remove images by name",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).remove,
  },
  {
    name: "rock image prune",
    summary: "remove what no image, sandbox or snapshot needs",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).prune,
  },
  {
    name: "rock image pull",
    summary: "fetch an image from a registry",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).pull,
  },
  {
    name: "rock image push",
    summary: "send an image to a registry",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).push,
  },
  {
    name: "rock image import",
    summary: "make an image of an archive",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).importCommand,
  },
  {
    name: "rock image export",
    summary: "write an image to a file that other tools read",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).exportCommand,
  },
  {
    name: "rock image bootstrap",
    summary: "make a Debian with packages",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).bootstrap,
  },
  {
    name: "rock image map",
    summary: "let a name stand for another local image",
    hosts: true,
    load: async () => (await import("./commands/rock-image.ts")).map,
  },
  {
    name: "rock token create",
    summary: "make a token for a tenant and print it, once",
    load: async () => (await import("./commands/rock-token.ts")).create,
  },
  {
    name: "rock token ls",
    summary: "list tokens, without the tokens themselves",
    load: async () => (await import("./commands/rock-token.ts")).list,
  },
  {
    name: "rock token rm",
    summary: "revoke tokens",
    load: async () => (await import("./commands/rock-token.ts")).remove,
  },
  {
    name: "doctor",
    summary: "say what this machine has, what it lacks, and how to get that",
    hosts: true,
    load: async () => (await import("./commands/doctor.ts")).doctor,
  },
  {
    name: "setup image",
    summary: "make the base image of the sandboxes, unless it is there",
    hosts: true,
    load: async () => (await import("./commands/setup.ts")).image,
  },
  {
    name: "setup engine",
    summary: "make the engine's own Python environment, unless it is there",
    load: async () => (await import("./commands/setup.ts")).engine,
  },
];
