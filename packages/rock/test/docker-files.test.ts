import { testAtEngine } from "./engine-driver.ts";

/** What does not depend on the driver, once more with sandboxes at a container engine: files. */
await testAtEngine(["files", "files-tree", "files-archive", "files-watch"]);
