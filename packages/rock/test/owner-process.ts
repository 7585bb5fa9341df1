import { OciDriver } from "../src/index.ts";
import { spec } from "./support.ts";

/** Run by lifecycle.test.ts as a process of its own: makes sandboxes under argv[2], tells their ids, and stays until it is killed. */
const driver = new OciDriver({ home: process.argv[2]! });
const boxes = await Promise.all([
  driver.create(spec()),
  driver.create(spec({ limits: { diskBytes: 256 * 2 ** 20 } })),
]);
await Promise.all(boxes.map((box) => box.shell.run("(setsid sh -c \"trap '' HUP TERM INT; sleep 600\" &)")));
console.log(JSON.stringify(boxes.map((box) => box.id)));
if (process.argv[3] === "exit") process.exit(0);
setInterval(() => {}, 60_000);
