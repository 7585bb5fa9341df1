import type { SandboxStats } from "@ale/rock";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";
import { withRock } from "../rock/client.ts";
import { bytes, duration } from "../rock/format.ts";
import { table } from "../table.ts";

const usage = defineUsage({
  positionals: "[ID...]",
  options: {},
  notes: "Without ID: all that run. Counters are since the start; - stands for what this host cannot tell.",
});

export const rockStats: Action = {
  usage,
  async run(argv, io) {
    const { positionals } = parseArguments(usage, argv);
    const found = await withRock(io, async (client) => {
      const ids =
        positionals.length > 0
          ? positionals
          : (await client.sandboxes.list({ states: ["running"] })).map(({ id }) => id);
      return Promise.all(
        ids.map(async (id): Promise<{ id: string } & SandboxStats> => {
          const path = `/sandboxes/${encodeURIComponent(id)}/stats`;
          return { id, ...(await client.call<SandboxStats>({ method: "GET", path })) };
        }),
      );
    });
    const text = (value: number | null): string => (value === null ? "-" : String(value));
    const rows = found.map((one) => [
      one.id,
      duration(one.uptimeMs),
      one.cpuMs === null ? "-" : `${(one.cpuMs / 1_000).toFixed(2)}s`,
      text(one.throttledPeriods),
      bytes(one.memoryBytes),
      bytes(one.memoryPeakBytes),
      text(one.oomKills),
      text(one.pids),
      bytes(one.diskBytes),
      text(one.diskInodes),
      duration(one.idleMs),
    ]);
    const titles = ["up", "cpu", "throttled", "memory", "peak", "oom", "pids", "disk", "inodes", "idle"];
    const columns = [{ title: "id" }, ...titles.map((title) => ({ title, align: "right" as const }))];
    const [head = "", ...body] = table(columns, rows);
    if (rows.length === 0) io.print("no sandboxes run");
    else for (const line of [io.paint("dim", head), ...body]) io.print(line);
    io.result({ sandboxes: found });
    return EXIT.ok;
  },
};
