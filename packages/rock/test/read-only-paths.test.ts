import { afterAll, describe, expect, test } from "vitest";
import { closeDriver, file, obstacle, sandbox, suite } from "./support.ts";

describe.skipIf(obstacle)(suite("read-only paths"), () => {
  afterAll(closeDriver);

  test("cannot be changed by anybody in the sandbox, what is beside them can", async () => {
    await using box = await sandbox({
      files: [file("/work/given/data", "as it was"), file("/work/free", "")],
      readOnlyPaths: ["/work/given", "/work/not-there"],
      user: "root",
    });
    const attempts = [
      "echo x > /work/given/data",
      "echo x > /work/given/new",
      "rm -f /work/given/data",
      "chmod 777 /work/given/data",
      "mv /work/given /work/taken",
    ];
    for (const attempt of attempts) {
      const { exitCode, output } = await box.shell.run(attempt);
      expect([exitCode === 0, /Read-only file system|busy/.test(output)], attempt).toEqual([false, true]);
    }
    expect((await box.shell.run("cat /work/given/data; rm /work/free")).output).toBe("as it was");
  });
});
