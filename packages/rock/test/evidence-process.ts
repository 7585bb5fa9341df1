import { openOciDriver, quarantine } from "../src/index.ts";
import { spec } from "./support.ts";

/**
 * Run by evidence.test.ts as a process of its own: puts a sandbox under argv[2] into quarantine as `case-1`, and is killed when its files have been
 * written and nothing runs in it any more, before any of them is kept. argv[3]: bytes it writes.
 */
const driver = openOciDriver({ home: process.argv[2]! });
const box = await driver.create(spec({ limits: { diskBytes: 64 * 2 ** 20, memoryBytes: 256 * 2 ** 20 } }));
await box.shell.run(`head -c ${process.argv[3]} /dev/urandom > loot; (setsid sleep 600 &)`);
console.log(box.id);
await quarantine(driver, box, {
  id: "case-1",
  labels: { quarantine: "no-loot" },
  onFrozen: () => process.kill(process.pid, "SIGKILL"),
});
