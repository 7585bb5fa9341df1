import { afterAll, describe, expect, test } from "vitest";
import type { OciSandbox } from "../src/oci/oci-sandbox.ts";
import { closeDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

const bash = (script: string): string[] => ["bash", "-c", script];

async function lengthOf(stream: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of stream) bytes += chunk.length;
  return bytes;
}

/** Kilobytes of PID 1. */
async function memory(box: OciSandbox): Promise<number> {
  const { stdout } = await box.exec({
    argv: ["sed", "-n", "s/^VmHWM: *\\([0-9]*\\) kB/\\1/p", "/proc/1/status"],
    user: "root",
  });
  return Number(stdout);
}

async function isWell(box: OciSandbox): Promise<void> {
  expect((await box.exec({ argv: ["echo", "well"] })).stdout).toBe("well\n");
  expect((await box.shell.run("echo well")).output).toContain("well\n");
}

const make = async (...more: Parameters<typeof sandbox>): Promise<OciSandbox> =>
  (await sandbox(...more)) as OciSandbox;

describe.skipIf(obstacle)(suite("PID 1"), () => {
  test("passes floods on all streams of shells, programs and collectors at once, and stays small", async () => {
    await using box = await make({ limits: { outputBytes: 10_000 } });
    const flood = "(head -c 20000000 /dev/zero & head -c 20000000 /dev/zero >&2; wait)";
    const other = await box.openSession();
    let heard = 0;
    const onOutput = (chunk: Uint8Array): void => {
      heard += chunk.length;
    };
    const started = await Promise.all([1, 2, 3].map(() => box.start({ argv: bash(flood) })));
    const results = await Promise.all([
      box.shell.run(flood).then((result) => result.outputBytes),
      other.run(flood, { onOutput }).then((result) => result.outputBytes),
      box.exec({ argv: bash(flood) }).then((result) => result.outputBytes),
      ...started.flatMap((one) => [lengthOf(one.stdout), lengthOf(one.stderr)]),
    ]);
    expect(results).toEqual([40_000_000, 40_000_000, 40_000_000, ...Array(6).fill(20_000_000)]);
    expect(heard).toBe(40_000_000);
    expect(await memory(box)).toBeLessThan(16_384);
    await isWell(box);
  });

  test("reaps what its own programs leave, while it runs others", async () => {
    await using box = await make({ limits: { pids: 40 } });
    const orphans = "for i in $(seq 100); do (sleep 0.001 & exec true); done";
    await Promise.all([
      box.exec({ argv: bash(orphans) }),
      box.shell.run(orphans),
      box.exec({ argv: bash(orphans) }),
    ]);
    await box.exec({ argv: ["sleep", "0.2"] });
    expect((await box.shell.run("ps -e -o stat= | grep -c Z")).output).toBe("0\n");
  });

  test("survives a fork bomb of a started program, and ends it with its deadline", async () => {
    await using box = await make({ limits: { pids: 48 } });
    const bomb = await box.start({ argv: bash("b() { b | b & }; b; sleep 60"), timeoutMs: 700 });
    void lengthOf(bomb.stdout);
    void lengthOf(bomb.stderr);
    expect(await bomb.exit).toMatchObject({ reason: "timeout" });
    await box.killAgentProcesses();
    await isWell(box);
  });

  test("is not disturbed by requests that are malformed, unknown, huge, or for what is not there", async () => {
    await using box = await make();
    const { control } = box.container;
    for (const type of [
      "nonsense",
      "",
      "run",
      "shell",
      "session",
      "connect",
      "resize",
      "credit",
      "write",
      "signal",
      "capture",
      "close-session",
      "interrupt",
      "drop",
      "hang-up",
      "load",
    ])
      for (const fields of [
        [],
        ["x"],
        ["x", "-1", "\0", "", "9".repeat(40)],
        ["x", Buffer.alloc(100_000, 255)],
      ])
        control.send(type, ...fields);
    control.send("nonsense", Buffer.alloc(30_000_000));
    await isWell(box);
    expect(box.endReason).toBeUndefined();
  });

  test("tells no program anything of itself: no descriptor, no argument, no environment", async () => {
    await using box = await make();
    const look =
      "ls /proc/self/fd; cat /proc/1/cmdline | tr '\\0' '.' | head -c 10; env | grep -c -i -e perl -e ale";
    const expected = "0\n1\n2\n3\ninit......0\n";
    expect((await box.exec({ argv: bash(look) })).stdout).toBe(expected);
    expect((await box.exec({ argv: bash(look), user: "root" })).stdout).toBe(expected);
    const started = await box.start({ argv: bash(look) });
    let shown = "";
    for await (const chunk of started.stdout) shown += Buffer.from(chunk).toString();
    expect(shown).toBe(expected);
  });

  test("gives every process it starts the same chance to be ended for memory, and none to itself", async () => {
    await using box = await make({ user: "root" });
    const look = "cat /proc/self/oom_score_adj /proc/1/oom_score_adj";
    expect((await box.shell.run(look)).output).toBe("500\n0\n");
    expect((await box.exec({ argv: bash(look) })).stdout).toBe("500\n0\n");
    const started = await box.start({ argv: bash(look), tty: { cols: 80, rows: 24 } });
    let shown = "";
    for await (const chunk of started.stdout) shown += Buffer.from(chunk).toString();
    expect(shown).toBe("500\r\n0\r\n");
  });
});
