import { basename } from "node:path";
import { inspectHost, openOciDriver, removeOldToolboxes } from "@ale/rock";
import { defineUsage, parseArguments } from "../args.ts";
import type { Action } from "../command.ts";
import { EXIT } from "../exit-codes.ts";

const usage = defineUsage({
  positionals: "",
  options: {},
  notes: `
Removes what sandboxes of crashed processes left on this machine: processes, mounts, control groups, directories; and toolboxes
made of programs that were upgraded since, while nobody has sandboxes in this home. Sandboxes whose owner lives are never touched, and files that a server keeps stay. Looks again to prove that nothing is left; exits 1
where something is.`,
});

/** A crash may leave a thousand. */
const SHOWN = 20;

export const rockGc: Action = {
  usage,
  async run(argv, io) {
    parseArguments(usage, argv);
    await using driver = openOciDriver({ home: io.home });
    const report = await driver.reap();
    for (const id of report.reaped.slice(0, SHOWN)) io.print(`removed ${id}`);
    if (report.reaped.length > SHOWN) io.print(`and ${report.reaped.length - SHOWN} more`);
    await settleDead(io.home);
    const { orphans, spaces } = inspectHost(io.home);
    const others = spaces.some(
      ({ owned, directory }) => owned && !basename(directory).includes(`-${process.pid}-`),
    );
    const toolboxes = others ? [] : removeOldToolboxes(io.home);
    const served = spaces.filter(({ kind, owned }) => kind === "durable" && owned);
    const living = [...report.alive, ...served.flatMap(({ sandboxes }) => sandboxes)];
    for (const { id, what } of report.failures) io.print(`${io.paint("red", "failed")} ${id}: ${what}`);
    for (const { type, what } of orphans) io.print(`${io.paint("red", "left")} ${type} ${what}`);
    const failed = report.failures.length + orphans.length > 0;
    const alive = `${living.length} of living owners left alone`;
    io.print(`${report.reaped.length} removed, ${alive}, ${orphans.length} orphans left`);
    for (const name of toolboxes)
      io.print(`removed inside/${name}, made of programs that were upgraded since`);
    io.result({
      ok: !failed,
      toolboxes,
      reaped: report.reaped,
      alive: living,
      failures: report.failures,
      orphans,
    });
    return failed ? EXIT.failed : EXIT.ok;
  },
};

/** A server that crashed leaves mounts and processes; its sandboxes' files are kept. Whoever opens its place next clears up. */
async function settleDead(home: string): Promise<void> {
  for (const { kind, owned, directory } of inspectHost(home).spaces) {
    if (kind !== "durable" || owned) continue;
    await using driver = openOciDriver({ home, durable: basename(directory).replace(/^durable-/, "") });
    await driver.stopped();
  }
}
