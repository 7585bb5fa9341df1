import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type EventOf, readEpisodeLog } from "@ale/core";
import { approvalsOf } from "@ale/guard";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { EXIT } from "../src/exit-codes.ts";
import { ale, type Outcome, removeHome, temporaryHome, whyNoLoop, workingHome } from "./support.ts";

const MAIN = join(import.meta.dirname, "../src/main.ts");

const BINARY = mkdtempSync(join(tmpdir(), "ale-binary-"));
writeFileSync(join(BINARY, "picture.png"), Buffer.from([0x89, 0x50, 0x4e, 0x47, 0xff, 0xfe]));
afterAll(() => rmSync(BINARY, { recursive: true }));

describe("ale run", () => {
  it.each([
    [["--task", "vault", "--ask", "bahs"], "did you mean bash?"],
    [["--task", "vault", "--network", "open", "--allow", "pypi.org"], "--allow pypi.org goes with"],
    [["--task", "vault", "--rules", "/none.yml"], "/none.yml"],
    [["--task", "vault", "--approve-within", "soon"], "--approve-within"],
    [["--task", "vault", "--install", "true"], "--install goes with an instruction"],
    [["do it", "--install-allow", "pypi.org"], "--install-allow goes with --install"],
    [[""], "INSTRUCTION is empty"],
    [[" \t\n"], "INSTRUCTION is empty"],
    [["do it", "--install", ""], "--install is empty"],
    [["do it", "--install", "true", "--install", " "], "--install is empty"],
    [["do it", "--files", ""], "--files is empty"],
    [["do it", "--files", "/none\u001b[31m"], "/none␛[31m is not there"],
    [["do it", "--files", MAIN], "main.ts is no folder"],
    [
      ["do it", "--files", join(import.meta.dirname, "../../../node_modules/.bin/..")],
      "holds more than 4 MiB",
    ],
    [["do it", "--files", BINARY], "picture.png is no UTF-8 text"],
    [["--task", "vault/heldout/7/8"], "is more than a task"],
    [["do it", "--json=yes"], "--json takes no value"],
    [["do it", "--install", "true", "--install-allow", "https://pypi.org"], "--install-allow: "],
  ])("refuses %j before anything is started", async (argv, message) => {
    const { exitCode, stderr } = await ale(await temporaryHome(), "run", ...argv);
    expect(exitCode).toBe(EXIT.usage);
    expect(stderr).toContain(message);
    for (const raw of ["\u001b", "ENOENT", "ENOTDIR"]) expect(stderr).not.toContain(raw);
  });
});

/** Tells a process once more that its terminal is gone; false where it has ended. */
function hungUp(pid: number): boolean {
  try {
    return process.kill(pid, "SIGHUP");
  } catch {
    return false;
  }
}

const missing = whyNoLoop();

describe.skipIf(missing !== null)(
  `ale run with a model${missing === null ? "" : ` (skipped: ${missing})`}`,
  () => {
    let home = "";
    beforeAll(() => {
      home = workingHome();
    });
    afterAll(() => removeHome(home));

    const eventsOf = async (outcome: Outcome) => {
      const { episode } = outcome.json() as { episode: string };
      return (await readEpisodeLog(join(home, "runs/run/episodes", `${episode}.jsonl`))).events;
    };

    it("tells the episode while it happens, and ends with one JSON value", async () => {
      const outcome = await ale(home, "run", "--task", "games/heldout/3", "--json");
      expect(outcome.exitCode).toBe(EXIT.ok);
      expect(outcome.stdout.trimEnd().split("\n")).toHaveLength(1);
      const told = outcome.stderr;
      const places = ["Instruction", "── chunk 0", "Ended", "Verdict"].map((text) => told.indexOf(text));
      expect(places).not.toContain(-1);
      expect(places).toEqual([...places].sort((a, b) => a - b));
      const events = await eventsOf(outcome);
      expect(outcome.json()).toMatchObject({
        termination: (events.find(({ type }) => type === "episode.end") as EventOf<"episode.end">)
          .termination,
      });
    }, 120_000);

    it("ends with 4 where the environment failed, and says which episode tells why", async () => {
      const outcome = await ale(
        home,
        "run",
        "do it",
        "--install",
        "false",
        "--approve-within",
        "5",
        "--json",
      );
      expect(outcome.exitCode).toBe(EXIT.environment);
      const told = outcome.json();
      expect(told).toMatchObject({
        ok: false,
        termination: "environment-fault",
        error: { code: "episode-fault" },
      });
      expect(outcome.stderr).toContain(`ale episodes show ${told.episode}`);
      expect(outcome.stderr).toContain("only what rules ask approval for will wait");
      expect(await eventsOf(outcome)).toContainEqual(
        expect.objectContaining({ type: "fault", what: "install" }),
      );
    }, 120_000);

    it("refuses at once what nobody is there to approve", async () => {
      const outcome = await ale(home, "run", "--task", "games/heldout/3", "--ask", "bash", "--json");
      expect(outcome.exitCode).toBe(EXIT.ok);
      const events = await eventsOf(outcome);
      const answers = events.filter((event) => event.type === "approval.answer");
      expect(answers.length).toBeGreaterThan(0);
      expect(answers.every(({ granted, by }) => !granted && by === "policy")).toBe(true);
      const ran = events.filter((event) => event.type === "tool.result" && event.name === "bash");
      expect(ran.every((event) => event.type === "tool.result" && event.guard === "refused")).toBe(true);
      expect(outcome.stderr).toContain("refused by policy");
    }, 120_000);

    it.skipIf(!existsSync("/usr/bin/script"))(
      "comes to its orderly end when its terminal is closed, however often that is told",
      async () => {
        const command = `'${process.execPath}' '${MAIN}' run --task games/heldout/3 --ask bash --approve-within 600`;
        const terminal = spawn("/usr/bin/script", ["-qec", command, "/dev/null"], {
          env: { ...process.env, ALE_HOME: home, NO_COLOR: "1" },
          stdio: ["pipe", "pipe", "ignore"],
        });
        let shown = "";
        terminal.stdout.on("data", (part: Buffer) => {
          shown += part.toString();
        });
        await vi.waitFor(() => expect(shown).toContain("y/N"), { timeout: 60_000 });
        expect(shown.match(/ap_[a-z0-9]+/g)).toHaveLength(1);
        const { id, episode } = approvalsOf(home).pending()[0]!;
        const asked = JSON.parse(readFileSync(join(home, "approvals", `${id}.json`), "utf8"));
        const { pid } = asked.owner as { pid: number };
        // The kernel hangs up when nobody has the other side of the terminal any more; its shell does too.
        terminal.kill("SIGKILL");
        await vi.waitFor(() => expect(hungUp(pid)).toBe(false), { timeout: 60_000, interval: 5 });
        const { events } = await readEpisodeLog(join(home, "runs/run/episodes", `${episode}.jsonl`));
        expect(events.slice(-2)).toMatchObject([
          { type: "episode.end", termination: "cancelled" },
          { type: "episode.seal" },
        ]);
        const mounts = readFileSync("/proc/self/mountinfo", "utf8").split("\n");
        const left = mounts.filter((line) => line.includes(`${home}/`) && !line.includes("/rock/sandboxes "));
        expect(left).toEqual([]);
      },
      120_000,
    );

    it.each([
      ["SIGINT", EXIT.interrupted, "its episode was cancelled"],
      ["SIGKILL", null, "nobody waits"],
    ] as const)(
      "that ends by %s waits for nobody any more",
      async (signal, exitCode, told) => {
        const argv = ["run", "--task", "games/heldout/3", "--ask", "bash", "--approve-within", "600"];
        const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...argv], {
          env: { ...process.env, ALE_HOME: home, NO_COLOR: "1" },
          stdio: ["ignore", "pipe", "pipe"],
        });
        let said = "";
        child.stderr.on("data", (part: Buffer) => {
          said += part.toString();
        });
        const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
        let shown = "";
        child.stdout.on("data", (part: Buffer) => {
          shown += part.toString();
        });
        await vi.waitFor(() => expect(approvalsOf(home).pending()).toHaveLength(1), { timeout: 60_000 });
        const { id } = approvalsOf(home).pending()[0]!;
        await vi.waitFor(() => expect(shown).toContain(`? ${id} waits for approval (ask:bash)`));
        child.kill(signal);
        expect(await ended).toBe(exitCode);
        if (signal === "SIGINT") expect(said).toContain("the same command begins anew");
        expect(approvalsOf(home).pending()).toEqual([]);
        const late = await ale(home, "guard", "approve", id);
        expect([late.exitCode, late.stderr]).toEqual([EXIT.failed, expect.stringContaining(told)]);
        const episode = approvalsOf(home).find(id).episode;
        const { events } = await readEpisodeLog(join(home, "runs/run/episodes", `${episode}.jsonl`));
        expect(events.some((event) => event.type === "approval.request" && event.id === id)).toBe(true);
        const answers = events.filter((event) => event.type === "approval.answer");
        expect(answers).toMatchObject(signal === "SIGINT" ? [{ id, granted: false, by: "cancelled" }] : []);
      },
      120_000,
    );
  },
);
