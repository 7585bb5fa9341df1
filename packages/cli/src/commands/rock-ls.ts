import type { SandboxView } from "@ale/rock/client";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import type { Io } from "../io.ts";
import { printable } from "../printable.ts";
import { withRock } from "../rock/client.ts";
import { bytes, duration, pairs } from "../rock/format.ts";
import { table } from "../table.ts";

const usage = defineUsage({
  positionals: "",
  options: {
    all: { type: "boolean", short: "a", help: "also those that stopped or failed" },
    label: { type: "string", short: "l", multiple: true, value: "K=V", help: "only those with this label" },
    quiet: { type: "boolean", short: "q", help: "only ids, one a line" },
  },
});

export const rockLs: Action = {
  usage,
  async run(argv, io) {
    const { values } = parseArguments(usage, argv);
    const labels = pairs("--label", values.label) ?? {};
    const sandboxes = await withRock(io, (client) =>
      client.sandboxes.list({ labels, ...(values.all ? {} : { states: ["pending", "running"] as const }) }),
    );
    if (values.quiet) for (const { id } of sandboxes) io.print(id);
    else printTable(sandboxes, values.all, io);
    io.result({ sandboxes });
    return EXIT.ok;
  },
};

function printTable(sandboxes: readonly SandboxView[], all: boolean, io: Io): void {
  if (sandboxes.length === 0) {
    io.print(
      `no sandboxes${all ? "" : " run (--all shows those that ended)"}; make one: ale rock create IMAGE`,
    );
    return;
  }
  const now = Date.now();
  const rows = sandboxes.map((box) => [
    box.id,
    state(box, io),
    printable(box.image),
    duration(now - box.createdAtMs),
    `${box.limits.cpus}`,
    bytes(box.limits.memoryBytes),
    printable(labelText(box.labels)),
  ]);
  const columns = [
    { title: "id" },
    { title: "state" },
    { title: "image" },
    { title: "age", align: "right" as const },
    { title: "cpus", align: "right" as const },
    { title: "memory", align: "right" as const },
    { title: "labels" },
  ];
  const [head = "", ...body] = table(columns, rows);
  io.print(io.paint("dim", head));
  for (const line of body) io.print(line);
}

const labelText = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${value}`)
    .join(",");

function state(box: SandboxView, io: Io): string {
  const text =
    box.endReason === null || box.state === "running" ? box.state : `${box.state}: ${box.endReason}`;
  if (box.state === "running") return io.paint("green", text);
  return io.paint(box.state === "failed" ? "red" : "dim", text);
}
