import { openOciDriver } from "@ale/rock";
import { defineUsage, parseArguments } from "../args.ts";
import type { Command } from "../command.ts";
import { EXIT } from "../exit-codes.ts";

const usage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Removes what sandboxes of crashed processes left on this machine: processes, mounts, control groups, directories. Sandboxes
whose owner lives are never touched. Looks a second time to prove that nothing is left; exits 1 where something is.`,
});

export const rockGc: Command = {
  name: "rock gc",
  summary: "remove what crashed sandboxes left",
  usage,
  async run(argv, io) {
    parseArguments(usage, argv);
    await using driver = openOciDriver({ home: io.home });
    const report = await driver.reap();
    const after = await driver.reap();
    for (const id of report.reaped) io.print(`removed ${id}`);
    const failures = [...after.failures, ...after.reaped.map((id) => ({ id, what: "was still there" }))];
    for (const { id, what } of failures) io.print(`${io.paint("red", "left")} ${id}: ${what}`);
    const alive = `${report.alive.length} of living owners left alone`;
    io.print(`${report.reaped.length} removed, ${alive}, ${failures.length} orphans left`);
    io.result({ reaped: report.reaped, alive: report.alive, failures });
    return failures.length === 0 ? EXIT.ok : EXIT.failed;
  },
};
