import type { Duplex } from "node:stream";
import { afterAll, describe, expect, test } from "vitest";
import type { Sandbox } from "../src/index.ts";
import { closeDriver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

/** A server in perl: `body` gets its connections as C. Resolves when it listens. */
async function serve(box: Sandbox, body: string, family: 4 | 6 = 4): Promise<void> {
  const address =
    family === 4
      ? "pack('S n N x8', 2, 8080, 0x7f000001)"
      : "pack('S n N a16 N', 10, 8080, 0, qq(\\0) x 15 . qq(\\1), 0)";
  const program = `$| = 1; socket(S, ${family === 4 ? 2 : 10}, 1, 0); setsockopt(S, 1, 2, 1); bind(S, ${address}) or die $!; listen(S, 50); print qq(ready\\n);
    while (accept(C, S)) { if (!fork) { ${body}; exit } close C }`;
  const started = await box.start({ argv: ["perl", "-e", program] });
  await started.stdout[Symbol.asyncIterator]().next();
}

async function textOf(stream: Duplex): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe.skipIf(obstacle)(suite("a connection into a sandbox"), () => {
  test.each([4, 6] as const)("reaches what listens on loopback, IPv%i", async (family) => {
    await using box = await sandbox();
    await serve(box, "$line = <C>; print C qq(you said $line)", family);
    const connection = await box.connect(8080);
    connection.write("hello\n");
    expect(await textOf(connection)).toBe("you said hello\n");
  });

  test("passes on the end of either side alone", async () => {
    await using box = await sandbox();
    await serve(box, "local $/; $all = <C>; sleep 1; print C length $all");
    const connection = await box.connect(8080);
    connection.end(Buffer.alloc(300_000, "x"));
    expect(await textOf(connection)).toBe("300000");
  });

  test("carries much in both directions at once, and waits for slow ends", async () => {
    await using box = await sandbox();
    await serve(
      box,
      "while (sysread(C, $b, 65536)) { while (length $b) { $n = syswrite(C, $b); last if !$n; substr($b, 0, $n) = '' } }",
    );
    const connection = await box.connect(8080);
    const data = Buffer.from(Array.from({ length: 400_000 }, (_, i) => `${i}\n`).join(""));
    let accepted = true;
    for (let at = 0; at < data.length; at += 50_000)
      accepted = connection.write(data.subarray(at, at + 50_000)) && accepted;
    expect(accepted).toBe(false);
    connection.end();
    await box.exec({ argv: ["sleep", "0.3"] });
    expect(connection.readableLength).toBeLessThan(600_000);
    expect((await textOf(connection)) === data.toString()).toBe(true);
  });

  test("is refused where nothing listens, and for what is no port", async () => {
    await using box = await sandbox();
    await expect(box.connect(8081)).rejects.toMatchObject({
      code: "connect-failed",
      message: expect.stringContaining("Connection refused"),
    });
    for (const port of [0, -1, 65_536, 1.5, Number.NaN])
      await expect(box.connect(port)).rejects.toMatchObject({ code: "connect-failed" });
  });

  test("ends when the server goes, when the client hangs up, and when the sandbox goes", async () => {
    const box = await sandbox();
    await serve(
      box,
      "sysread(C, $b, 10); if ($b eq 'bye') { exit } open(F, '>', '/work/seen'); print F 'eof' if !sysread(C, $b, 10)",
    );
    const left = await box.connect(8080);
    left.write("bye");
    expect(await textOf(left)).toBe("");
    const hung = await box.connect(8080);
    hung.write("stay");
    await box.exec({ argv: ["sleep", "0.1"] });
    hung.destroy();
    expect((await box.shell.run("sleep 0.2; cat seen")).output).toBe("eof");
    const last = await box.connect(8080);
    const closed = new Promise<void>((resolve) => last.once("close", () => resolve()));
    await box.destroy();
    await closed;
    await expect(box.connect(8080)).rejects.toMatchObject({ code: "sandbox-gone" });
  });

  test("is one of many", async () => {
    await using box = await sandbox({ limits: { pids: 200 } });
    await serve(box, "$line = <C>; print C $line");
    const replies = await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const connection = await box.connect(8080);
        connection.write(`${i}\n`);
        return textOf(connection);
      }),
    );
    expect(replies).toEqual(Array.from({ length: 60 }, (_, i) => `${i}\n`));
  });
});
