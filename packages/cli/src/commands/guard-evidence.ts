import { AleError, verifyEpisodeLog } from "@ale/core";
import { type EvidenceInfo, findEvidence, listEvidence, pruneEvidence, releaseEvidence } from "@ale/rock";
import { whoAnswers } from "../approvals.ts";
import { defineUsage, parseArguments, usageError } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { deepPrintable } from "../printable.ts";
import { bytes, duration } from "../rock/format.ts";
import { listRuns } from "../runs.ts";
import { table } from "../table.ts";

/** `ale guard evidence`: what is kept of sandboxes in quarantine, until a person lets it go. */

const listUsage = defineUsage({
  positionals: "",
  options: { all: { type: "boolean", short: "a", help: "also what was removed or lost" } },
  notes: `
The files of each are an image; look at them with ale rock create IMAGE. What is frozen still has its processes, which take memory and no
processor, and ends with the process that has it, or when it is released.`,
});

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    const { values } = parseArguments(listUsage, argv);
    const all = listEvidence(io.home);
    const isThere = ({ files }: EvidenceInfo): boolean => files.type === "kept" || files.type === "wanted";
    const shown = values.all ? all : all.filter(isThere);
    const rows = deepPrintable(shown).map((one) => [
      one.id,
      one.labels.quarantine ?? "",
      duration(Date.now() - one.askedAtMs),
      stateOf(one),
      one.files.type === "kept" ? bytes(one.ownBytes) : "",
      one.frozen === undefined
        ? ""
        : `process ${one.frozen.pid}, ${bytes(one.frozen.memoryBytes ?? 0)} of memory, ${bytes(one.frozen.diskBytes ?? 0)} of disk`,
    ]);
    const right = { align: "right" as const };
    const columns = [
      { title: "evidence", whole: true as const },
      { title: "rule" },
      { title: "age", ...right },
      { title: "files" },
      { title: "disk", ...right },
      { title: "frozen" },
    ];
    const [head = "", ...body] = table(columns, rows, io.columns);
    if (rows.length === 0)
      io.print(all.length === 0 ? "no evidence" : `no evidence is kept any more; ${all.length} with --all`);
    else for (const line of [io.paint("dim", head), ...body]) io.print(line);
    const total = shown.reduce((sum, { ownBytes }) => sum + ownBytes, 0);
    const due = shown.filter((one) => one.released !== null && isThere(one)).length;
    if (rows.length > 0)
      io.print(`${bytes(total)} of files${due > 0 ? `; ${due} released: ale guard evidence prune` : ""}`);
    io.result({ evidence: all });
    return EXIT.ok;
  },
};

function stateOf({ files, released, image, orphaned, usedBy }: EvidenceInfo): string {
  const gone = released === null ? "" : `, released by ${released.by}`;
  switch (files.type) {
    case "kept":
      return `${image}${files.salvaged ? " (salvaged)" : ""}${gone}${usedBy.length > 0 ? `, used by ${usedBy.length}` : ""}`;
    case "wanted":
      return orphaned ? "not yet kept: ale rock gc does" : (files.why ?? "being kept");
    case "lost":
      return `lost: ${files.why}`;
    case "removed":
      return `removed${gone}`;
    default:
      return files satisfies never;
  }
}

const releaseUsage = defineUsage({
  positionals: "ID...",
  options: {
    reason: { type: "string", value: "TEXT", help: "why it is needed no longer; required, and recorded" },
    unsealed: { type: "boolean", help: "also where the episode's log is not sealed, or not here" },
  },
  notes: `
ID is what ale guard evidence ls shows, or a beginning of it, with 8 characters after ep_ or more, that no other has. What is still frozen of it
ends within seconds; its files go with ale guard evidence prune. Nothing else ever removes evidence.
example: ale guard evidence release ep_01k4mz8qr3 --reason "bundle exported, case 17 closed"`,
});

export const release: Action = {
  usage: releaseUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(releaseUsage, argv);
    const reason = values.reason?.trim();
    if (reason === undefined || reason === "")
      throw usageError("--reason is missing", "say why it is needed no longer: --reason TEXT");
    // All are looked at before the first is let go.
    const wanted = [...new Set(positionals.map((word) => findEvidence(io.home, word)))];
    if (!values.unsealed) for (const { id, labels } of wanted) await refuseOpen(io, id, labels.episode);
    const done = wanted.map(({ id }) => releaseEvidence(io.home, id, { by: whoAnswers(), reason }));
    for (const { id } of done) io.print(`released ${id}`);
    io.print(io.paint("dim", "its files go with: ale guard evidence prune"));
    io.result({ released: done });
    return EXIT.ok;
  },
};

/** An episode that is not over may still be told something, and a log that was cut off needs what is left of the sandbox most. */
async function refuseOpen(io: Io, id: string, episode: string | undefined): Promise<void> {
  const open = (what: string): AleError =>
    new AleError("evidence-open", `${id} is not released: ${what}`, {
      next: "look at it first; ale guard evidence release --unsealed lets it go all the same",
    });
  if (episode === undefined) throw open("it says no episode");
  for (const { store } of await listRuns(io.home)) {
    if (!(await store.ids()).includes(episode)) continue;
    const log = await verifyEpisodeLog(store.path(episode));
    if (!log.ok) throw open(`line ${log.line} of the log of ${episode} is damaged`);
    if (!log.sealed) throw open(`${episode} is still running, or was cut off: its log is not sealed`);
    return;
  }
  throw open(`the log of ${episode} is not in ${io.home}/runs`);
}

const pruneUsage = defineUsage({
  positionals: "",
  options: {},
  notes:
    "Removes the files of evidence that a person released, and of nothing else. That it was there, and who let it go, stays.",
});

export const prune: Action = {
  usage: pruneUsage,
  async run(argv, io) {
    parseArguments(pruneUsage, argv);
    const { removed, kept, held } = pruneEvidence(io.home);
    for (const { id, bytes: freed } of removed) io.print(`${id}: ${bytes(freed)} freed`);
    for (const { id, why } of kept) io.print(`${io.paint("yellow", "kept")} ${id}: ${why}`);
    io.print(`${removed.length} removed, ${held} not released`);
    io.result({ removed, kept, held });
    return EXIT.ok;
  },
};
