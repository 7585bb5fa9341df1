import { afterAll, describe, expect, test } from "vitest";
import type { Process } from "../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** What a terminal shows, piece by piece. */
function screen(process: Process): { until(text: string): Promise<string>; rest(): Promise<string> } {
  const reader = process.stdout[Symbol.asyncIterator]();
  let shown = "";
  return {
    until: async (text) => {
      while (!shown.includes(text)) {
        const { value, done } = await reader.next();
        if (done) throw new Error(`it ended before ${JSON.stringify(text)}: ${JSON.stringify(shown)}`);
        shown += Buffer.from(value).toString();
      }
      const seen = shown;
      shown = "";
      return seen;
    },
    rest: async () => {
      for (let next = await reader.next(); !next.done; next = await reader.next())
        shown += Buffer.from(next.value).toString();
      return shown;
    },
  };
}

const tty = { cols: 100, rows: 30 };

describe.skipIf(obstacle)(suite("a program on a terminal"), () => {
  test("has it as all of its streams, as controlling terminal, in the size asked for", async () => {
    await using box = await sandbox();
    const script =
      "test -t 0 && test -t 1 && test -t 2 && echo three; stty size; ps -o tty= -p $$; echo to-tty > /dev/tty; tty; echo $TERM";
    const started = await box.start({ argv: ["bash", "-c", script], tty });
    expect(await screen(started).rest()).toMatch(
      /^three\r\n30 100\r\npts\/\d+\s*\r\nto-tty\r\n\/dev\/pts\/\d+\r\nxterm-256color\r\n$/,
    );
    expect(await started.exit).toEqual({ exitCode: 0, signal: null, reason: "exited" });
  });

  test("shows every last byte of a large output", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: ["bash", "-c", "seq 50000"], tty });
    const text = await screen(started).rest();
    expect(text.length).toBe(338_894);
    expect(text.endsWith("49999\r\n50000\r\n")).toBe(true);
  });

  test("an interactive shell controls its jobs, and Ctrl-C reaches the one in front", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: ["bash", "--norc", "-i"], tty, env: { PS1: "> " } });
    const shown = screen(started);
    await shown.until("> ");
    await started.write("sleep 60\r");
    await shown.until("sleep 60\r\n");
    await box.exec({ argv: ["sleep", "0.2"] });
    await started.write("\x03");
    await shown.until("> ");
    await started.write("echo status $?\r");
    expect(await shown.until("status 130")).not.toContain("no job control");
    await started.write("sleep 50\r");
    await box.exec({ argv: ["sleep", "0.2"] });
    await started.write("\x1a");
    await shown.until("Stopped");
    await started.write("fg\r");
    await shown.until("sleep 50\r\n");
    await box.exec({ argv: ["sleep", "0.2"] });
    await started.write("\x03");
    await shown.until("> ");
    await started.write("exit 3\r");
    await shown.rest();
    expect(await started.exit).toMatchObject({ exitCode: 3 });
  });

  test("hears of a new size", async () => {
    await using box = await sandbox();
    const script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done";
    const started = await box.start({ argv: ["bash", "-c", script], tty });
    const shown = screen(started);
    await shown.until("ready");
    await started.resize({ cols: 80, rows: 24 });
    expect(await shown.rest()).toContain("24 80\r\n");
    await expect(box.start({ argv: ["true"], tty: { cols: 0, rows: 1 } })).rejects.toMatchObject({
      code: "terminal-size",
    });
  });

  test("gets Ctrl-D where its input is closed", async () => {
    await using box = await sandbox();
    const started = await box.start({ argv: ["cat"], tty });
    await started.write("line\n");
    await started.closeStdin();
    expect(await screen(started).rest()).toContain("line\r\nline\r\n");
    expect(await started.exit).toMatchObject({ exitCode: 0 });
  });

  test("belongs to the user, and to no other sandbox's terminals", async () => {
    await using box = await sandbox();
    const started = await box.start({
      argv: ["bash", "-c", "stat -c %U $(tty); cat < $(tty) & sleep 0.1; echo opened"],
      tty,
    });
    expect(await screen(started).rest()).toBe("agent\r\nopened\r\n");
  });

  test("ends at its deadline with everything on it", async () => {
    await using box = await sandbox();
    const started = await box.start({
      argv: ["bash", "-c", "trap '' HUP INT TERM; sleep 99 & sleep 98"],
      tty,
      timeoutMs: 300,
    });
    await screen(started).rest();
    expect(await started.exit).toMatchObject({ exitCode: null, reason: "timeout" });
    const { stdout } = await box.exec({ argv: ["bash", "-c", "ps -e -o args= | grep '[s]leep 9'; true"] });
    expect(stdout).toBe("");
  });
});
