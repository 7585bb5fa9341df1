import { openDockerDriver } from "../src/index.ts";
import { spec } from "./support.ts";

/** Run by docker.test.ts as a process of its own: makes sandboxes at the engine of argv[2], tells their ids, and stays until it is killed. */
const driver = openDockerDriver({ socket: process.argv[2]!, unenforced: ["disk"] });
const boxes = await Promise.all([driver.create(spec()), driver.create(spec())]);
await Promise.all(boxes.map((box) => box.shell.run("(setsid sh -c \"trap '' HUP TERM INT; sleep 600\" &)")));
console.log(JSON.stringify(boxes.map((box) => box.id)));
setInterval(() => {}, 60_000);
