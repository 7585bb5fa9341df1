import { testAtEngine } from "./engine-driver.ts";

/** What does not depend on the driver, once more with sandboxes at a container engine: programs. */
await testAtEngine(["exec", "process", "connect"]);
