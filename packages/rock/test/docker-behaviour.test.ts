import { test } from "vitest";
import { openDockerDriver } from "../src/index.ts";
import { engineObstacle, startEngine } from "./engine.ts";
import { useDriver } from "./support.ts";

/** What does not depend on the driver, once more with sandboxes at a container engine. */

test.skipIf(engineObstacle)(
  `an engine can be started${engineObstacle ? ` (skipped: ${engineObstacle})` : ""}`,
  () => {},
);

if (engineObstacle === undefined) {
  useDriver(async () => {
    const engine = await startEngine();
    const driver = openDockerDriver({ socket: engine.socket, unenforced: ["disk"] });
    const close = driver[Symbol.asyncDispose].bind(driver);
    driver[Symbol.asyncDispose] = async () => {
      await close();
      await engine[Symbol.asyncDispose]();
    };
    return driver;
  });
  for (const subject of ["exec", "process", "connect", "files"]) await import(`./${subject}.test.ts`);
}
