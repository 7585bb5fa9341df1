import { execFileSync } from "node:child_process";
import { cpus, release, totalmem, type } from "node:os";
import { digestOf } from "@ale/core";
import { baseImage, type SandboxDriver } from "@ale/rock";
import { locateEngine } from "@ale/roll";
import { modelFiles } from "../provenance.ts";
import { softwareVersions } from "../versions.ts";

/** What a result depends on besides the recipe, for the report and for people who compare. */
export function machineFacts(): Record<string, string> {
  const processors = cpus();
  return {
    processor: processors[0]?.model ?? "unknown",
    processors: String(processors.length),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${type()} ${release()}`,
  };
}

export async function softwareFacts(driver: SandboxDriver, home: string): Promise<Record<string, string>> {
  const { ale, node } = await softwareVersions();
  const { runtime } = await driver.capabilities();
  const image = baseImage(home);
  return {
    ale,
    node,
    ...pythonFacts(home),
    runtime,
    image: `${image.name} ${image.version}`,
  };
}

/** Versions of the engine's packages from their metadata, without importing them. */
function pythonFacts(home: string): Record<string, string> {
  const located = locateEngine(home);
  if (!located.ok) return {};
  const program = `import sys, importlib.metadata as m; print(sys.version.split()[0], m.version("torch"), m.version("transformers"))`;
  const [python = "", torch = "", transformers = ""] = execFileSync(located.value.python, ["-c", program], {
    encoding: "utf8",
  })
    .trim()
    .split(" ");
  return { python, torch, transformers };
}

/** One digest over a model directory's files. */
export const modelDigest = (directory: string): string => digestOf(modelFiles(directory));
