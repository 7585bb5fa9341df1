import { test } from "vitest";
import { openDockerDriver } from "../src/index.ts";
import { engineObstacle, startEngine } from "./engine.ts";
import { useDriver } from "./support.ts";

/** Runs files of tests of what all drivers have once more, with sandboxes at a container engine that they share. */
export async function testAtEngine(subjects: readonly string[]): Promise<void> {
  const name = `an engine can be started${engineObstacle ? ` (skipped: ${engineObstacle})` : ""}`;
  test.skipIf(engineObstacle)(name, () => {});
  if (engineObstacle !== undefined) return;
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
  for (const subject of subjects) await import(`./${subject}.test.ts`);
}
