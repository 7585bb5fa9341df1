import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { NetworkPolicy } from "@ale/core";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { harborFiles, makeTask, writeHarborTask } from "../src/index.ts";

describe("a task as a Harbor directory", () => {
  let directory = "";
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), "ale-harbor-"));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));

  const actionsOf = (task: ReturnType<typeof makeTask>) => task.plan.map((step) => step([]).right);

  it("has the instruction, the settings, the environment, the tests and a solution", async () => {
    const task = makeTask("debug", "train", 0);
    await writeHarborTask(directory, task, actionsOf(task));
    const text = (path: string) => readFileSync(join(directory, path), "utf8");
    expect(text("instruction.md")).toBe(`${task.instance.instruction}\n`);
    expect(text("task.toml")).toContain('network_mode = "no-network"');
    expect(text("task.toml")).toContain('name = "ale/debug-train-0"');
    for (const file of task.instance.files) {
      expect(text("environment/Dockerfile")).toContain(`"files${file.path}", "${file.path}"`);
      expect(text(`environment/files${file.path}`)).toBe(file.content);
    }
    expect(text("tests/test.sh")).toBe(task.instance.verifier.files[0]?.content);
    expect(statSync(join(directory, "solution/solve.sh")).mode & 0o777).toBe(0o755);
  });

  it("says which network each phase has", () => {
    const task = makeTask("debug", "train", 0);
    const network = NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name: "pypi.org" }] });
    const networkPhases = {
      install: NetworkPolicy.parse({ mode: "open" }),
      verifier: { mode: "none" as const },
    };
    const instance = { ...task.instance, network, networkPhases };
    const toml = harborFiles({ ...task, instance }, []).find(({ path }) => path === "task.toml")!.content;
    const tables = toml.split(/^(?=\[)/m);
    const table = (name: string): string => tables.find((one) => one.startsWith(`[${name}]`))!;
    expect(table("environment")).toContain('network_mode = "public"\n');
    expect(table("agent")).toContain('network_mode = "allowlist"\nallowed_hosts = ["pypi.org"]\n');
    expect(table("verifier")).toContain('network_mode = "no-network"\n');
  });

  it("installs in its image what the instance installs before the agent begins", () => {
    const task = makeTask("debug", "train", 0);
    const install = {
      commands: [
        { command: 'pip install "$PACKAGE"\npip check', user: "root" as const },
        { command: "make", user: "agent" as const },
      ],
      env: { PACKAGE: "it's" },
      timeoutMs: 1_000,
    };
    const instance = { ...task.instance, schema: "ale/instance@2" as const, install };
    const files = harborFiles({ ...task, instance }, []);
    const dockerfile = files.find(({ path }) => path === "environment/Dockerfile")!.content;
    const runs = [...dockerfile.matchAll(/^USER (\w+)\nRUN (.*)$/gm)].map(([, user, argv]) => [
      user,
      JSON.parse(argv!),
    ]);
    const given = "export PACKAGE='it'\\''s'; ";
    expect(runs).toEqual([
      ["root", ["/bin/bash", "-c", `${given}pip install "$PACKAGE"\npip check`]],
      ["agent", ["/bin/bash", "-c", `${given}make`]],
    ]);
    expect(dockerfile.trimEnd().endsWith("USER root")).toBe(true);
  });

  it("has a solution that does what the edits of the plan do", async () => {
    const task = makeTask("swe", "train", 4);
    await writeHarborTask(directory, task, actionsOf(task));
    const [file] = task.instance.files;
    const name = file!.path.slice("/work/".length);
    writeFileSync(join(directory, name), file!.content);
    const script = readFileSync(join(directory, "solution/solve.sh"), "utf8").replaceAll(
      "'/work'",
      `'${directory}'`,
    );
    execFileSync("bash", ["-c", script]);
    const [, key, value] = /^set (\w+) to (\d+)/.exec(task.instance.instruction)!;
    const after = readFileSync(join(directory, name), "utf8");
    expect(after).toBe(file!.content.replace(new RegExp(`${key} \\d+`), `${key} ${value}`));
    expect(after).not.toBe(file!.content);
  });
});
