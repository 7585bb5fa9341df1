import { openOciDriver } from "../src/index.ts";
import { spec } from "./support.ts";

/**
 * Run by recovery.test.ts as a process of its own: owns a durable space under argv[2] with sandboxes `mem` and `disk`, a fork of a
 * snapshot, a pool and daemons. Tells when it is ready, and is killed, with argv[3] `snapshots` in the middle of snapshots.
 */
const driver = openOciDriver({ home: process.argv[2]!, durable: "server" });
const [mem, disk] = await Promise.all([
  driver.create(spec({ id: `mem-${process.argv[4]}`, labels: { kind: "mem" }, env: { A: "b" } })),
  driver.create(
    spec({ id: `disk-${process.argv[4]}`, limits: { diskBytes: 256 * 2 ** 20, lifetimeMs: 600_000 } }),
  ),
]);
for (const box of [mem, disk]) {
  await box.shell.run("echo kept > kept; (setsid sh -c \"trap '' HUP TERM INT; sleep 600\" &)");
}
const { snapshot } = await mem.snapshot({ labels: { step: "1" } });
await mem.shell.run("echo later > later");
const [fork] = await driver.snapshots.fork(snapshot.id, 1);
const pool = driver.pool(spec(), { size: 1 });
await pool.filled();
console.log(JSON.stringify({ mem: mem.id, disk: disk.id, fork: fork!.id, snapshot: snapshot.id }));
setInterval(() => {}, 60_000);
if (process.argv[3] === "snapshots") for (;;) await Promise.all([mem.snapshot(), disk.snapshot()]);
