import type { DiffEntry, Snapshot, SnapshotResult } from "@ale/rock";
import type { SandboxView } from "@ale/rock/client";
import { defineUsage, parseArguments, wholeNumber } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { printable } from "../printable.ts";
import { withRock } from "../rock/client.ts";
import { bytes, duration, pairs } from "../rock/format.ts";
import { LIMIT_OPTIONS, limitsOf } from "../rock/limits.ts";
import { NETWORK_OPTIONS, networkAsked } from "../rock/network.ts";
import { table } from "../table.ts";

/** States of sandboxes' files: taken, listed, forked, compared, gone back to, removed. */

const label = { type: "string", short: "l", multiple: true, value: "K=V", help: "may be repeated" } as const;

const takeUsage = defineUsage({
  positionals: "ID",
  options: {
    keep: { type: "boolean", help: "its processes go on; takes time in proportion to what it has written" },
    label,
  },
  notes: `
Prints the snapshot's id. Without --keep it takes the same few milliseconds whatever the size: the sandbox begins anew above
the snapshot, its processes end, its shells keep directory, variables and functions.`,
});

export const take: Action = {
  usage: takeUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(takeUsage, argv);
    const labels = pairs("--label", values.label);
    const result = await withRock(io, async (client): Promise<SnapshotResult> => {
      const sandbox = await client.sandboxes.attach(positionals[0]!);
      return sandbox.snapshot({
        processes: values.keep ? "keep" : "restart",
        ...(labels === undefined ? {} : { labels }),
      });
    });
    io.print(result.snapshot.id);
    if (result.processes === "lost") io.note("processes that ran in it have ended");
    io.result(result);
    return EXIT.ok;
  },
};

const listUsage = defineUsage({ positionals: "", options: {} });

export const list: Action = {
  usage: listUsage,
  async run(argv, io) {
    parseArguments(listUsage, argv);
    const snapshots: readonly Snapshot[] = await withRock(io, (client) => client.driver.snapshots.list());
    const rows = snapshots.map((one) => [
      one.id,
      one.sandbox,
      printable(one.image),
      duration(Date.now() - one.createdAtMs),
      bytes(one.bytes),
      String(one.depth),
      one.parent ?? "-",
    ]);
    const columns = [
      { title: "snapshot" },
      { title: "sandbox" },
      { title: "image" },
      { title: "age", align: "right" as const },
      { title: "size", align: "right" as const },
      { title: "depth", align: "right" as const },
      { title: "parent" },
    ];
    const [head = "", ...body] = table(columns, rows);
    if (rows.length === 0) io.print("no snapshots; take one: ale rock snapshot ID");
    else for (const line of [io.paint("dim", head), ...body]) io.print(line);
    io.result({ snapshots });
    return EXIT.ok;
  },
};

const removeUsage = defineUsage({ positionals: "SNAPSHOT...", options: {} });

export const remove: Action = {
  usage: removeUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(removeUsage, argv);
    await withRock(io, async (client) => {
      for (const id of positionals) await client.driver.snapshots.remove(id);
    });
    for (const id of positionals) io.print(id);
    io.result({ removed: positionals });
    return EXIT.ok;
  },
};

const forkUsage = defineUsage({
  positionals: "SNAPSHOT",
  options: {
    count: { type: "string", short: "n", value: "N", help: "how many (default 1)" },
    label,
    env: { type: "string", short: "e", multiple: true, value: "K=V", help: "instead of the sandbox's own" },
    ...LIMIT_OPTIONS,
    ...NETWORK_OPTIONS,
  },
  notes: `
Prints the id of each. They share what the snapshot holds and nothing else. Limits that are not named, and the network, are those of the
sandbox that the snapshot was taken of.`,
});

export const fork: Action = {
  usage: forkUsage,
  async run(argv, io) {
    const { values, positionals } = parseArguments(forkUsage, argv);
    const json = {
      count: wholeNumber("--count", values.count, { min: 1, max: 256 }) ?? 1,
      labels: pairs("--label", values.label),
      env: pairs("--env", values.env),
      limits: limitsOf(values),
      network: await networkAsked(values, io),
    };
    const path = `/snapshots/${encodeURIComponent(positionals[0]!)}/forks`;
    const { sandboxes } = await withRock(io, (client) =>
      client.call<{ sandboxes: SandboxView[] }>({ method: "POST", path, json }),
    );
    for (const { id } of sandboxes) io.print(id);
    io.result({ sandboxes });
    return EXIT.ok;
  },
};

const diffUsage = defineUsage({
  positionals: "[FROM] TO",
  options: {},
  notes: `
Compares two snapshots; without FROM, a snapshot with its image. One line a path: A added, C changed, D removed.
Exits 0 whether or not they differ.`,
});

const SIGNS = { added: ["green", "A"], changed: ["yellow", "C"], removed: ["red", "D"] } as const;

export const diff: Action = {
  usage: diffUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(diffUsage, argv);
    const [from, to] =
      positionals.length === 1 ? [null, positionals[0]!] : [positionals[0]!, positionals[1]!];
    const entries: readonly DiffEntry[] = await withRock(io, (client) =>
      client.driver.snapshots.diff(from, to),
    );
    for (const { path, change, type } of entries) {
      const [colour, sign] = SIGNS[change];
      io.print(io.paint(colour, `${sign} ${printable(path)}${type === "directory" ? "/" : ""}`));
    }
    if (entries.length === 0) io.note("no differences");
    io.result({ entries });
    return EXIT.ok;
  },
};

const revertUsage = defineUsage({ positionals: "ID SNAPSHOT", options: {} });

export const revert: Action = {
  usage: revertUsage,
  async run(argv, io) {
    const { positionals } = parseArguments(revertUsage, argv);
    const [id = "", snapshot = ""] = positionals;
    await withRock(io, async (client) => (await client.sandboxes.attach(id)).revert(snapshot));
    io.print(`${id} is as ${snapshot} was`);
    io.result({ sandbox: id, snapshot });
    return EXIT.ok;
  },
};
