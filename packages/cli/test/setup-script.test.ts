import { spawn, spawnSync } from "node:child_process";
import { chmod, copyFile, mkdir, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { temporaryHome } from "./support.ts";

/**
 * ./quickstart on machines that lack something. The script is the real one; the machine is made by programs that stand before the
 * real ones on the PATH. Nothing is installed: every case ends before that.
 */
const QUICKSTART = resolve(import.meta.dirname, "../../../quickstart");

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

async function quickstart(
  home: string,
  programs: Readonly<Record<string, string>>,
  ...options: string[]
): Promise<Ended> {
  const bin = join(home, "bin");
  await mkdir(bin, { recursive: true });
  for (const [name, script] of Object.entries(programs)) {
    await writeFile(join(bin, name), `#!/bin/sh\n${script}\n`);
    await chmod(join(bin, name), 0o755);
  }
  const env = { ...process.env, ALE_HOME: join(home, "ale"), PATH: `${bin}:/usr/sbin:/usr/bin:/sbin:/bin` };
  // A session of its own has no terminal, whatever this test was started from.
  const child = spawn("setsid", ["--wait", "bash", QUICKSTART, "--setup-only", ...options], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data) => {
    stdout += String(data);
  });
  child.stderr.on("data", (data) => {
    stderr += String(data);
  });
  const exitCode = await new Promise<number | null>((done) => child.on("close", done));
  return { exitCode, stdout, stderr };
}

describe("./quickstart says what is missing and what to do, before it installs anything", () => {
  it("on macOS", async () => {
    const ended = await quickstart(await temporaryHome(), { uname: "echo Darwin" });
    expect(ended.exitCode).toBe(EXIT.missing);
    expect(ended.stderr).toContain("Linux virtual machine");
  });

  it("without a new enough Node, where the system's own is older too", async () => {
    const programs = { node: "echo v18.19.0", npm: "exit 0", "apt-cache": "echo Candidate: 18.19.0" };
    const ended = await quickstart(await temporaryHome(), programs);
    expect(ended.exitCode).toBe(EXIT.missing);
    expect(ended.stderr).toContain("Node 20 or newer with npm (found: v18.19.0)");
  });

  it("without root and without sudo's password", async () => {
    const programs = {
      node: "echo v22.1.0",
      npm: "exit 0",
      id: 'test "$1" = -u && echo 1000 || echo somebody',
      sudo: "exit 1",
    };
    const ended = await quickstart(await temporaryHome(), programs);
    expect(ended.exitCode).toBe(EXIT.missing);
    expect(ended.stderr).toContain("sudo wants a password");
    expect(ended.stderr).toContain("--yes");
  });

  it("with sudo, but neither --yes nor anyone to ask", async () => {
    const programs = {
      node: "echo v22.1.0",
      npm: "exit 0",
      id: 'test "$1" = -u && echo 1000 || echo somebody',
      sudo: "exit 0",
    };
    const ended = await quickstart(await temporaryHome(), programs);
    expect(ended.exitCode).toBe(EXIT.missing);
    expect(ended.stderr).toContain("--yes was not given");
  });

  it("when the disk is full", async () => {
    const programs = { df: "printf 'Filesystem\\nx 1 1 12 1 /\\n'" };
    const ended = await quickstart(await temporaryHome(), programs);
    expect(ended.exitCode).toBe(EXIT.missing);
    expect(ended.stderr).toMatch(/Only 12 MB are free .* about 4000 MB are needed/);
  });

  it("when its home cannot be written", async () => {
    const home = await temporaryHome();
    await writeFile(join(home, "ale"), "a file where a folder should be");
    expect((await quickstart(home, {})).exitCode).toBe(EXIT.environment);
  });

  it("as one JSON value on the last line for machines", async () => {
    const ended = await quickstart(await temporaryHome(), { uname: "echo Darwin" }, "--json");
    expect(JSON.parse(ended.stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({
      ok: false,
      exitCode: EXIT.missing,
      error: { code: "setup", next: expect.stringContaining("virtual machine") },
    });
  });
});

describe("./ale before anything is installed", () => {
  it("says what to run, as JSON too where that was asked for", async () => {
    const clone = await temporaryHome();
    const root = resolve(import.meta.dirname, "../../..");
    await mkdir(join(clone, "scripts"));
    for (const file of ["ale", "scripts/jobs.sh"]) await copyFile(join(root, file), join(clone, file));
    const { status, stdout, stderr } = spawnSync(join(clone, "ale"), ["doctor", "--json"], {
      encoding: "utf8",
    });
    expect(status).toBe(EXIT.missing);
    expect(stderr).toContain(`${clone}/quickstart --setup-only`);
    expect(JSON.parse(stdout)).toMatchObject({
      ok: false,
      exitCode: EXIT.missing,
      error: { message: "the node packages are not installed" },
    });
  });
});
