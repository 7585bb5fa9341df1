import { afterAll, describe, expect, test } from "vitest";
import { callName, parseDenied } from "../src/host/denied-calls.ts";
import type { DeniedCall } from "../src/index.ts";
import { closeDriver, driver, obstacle, sandbox, suite, until } from "./support.ts";

describe("the kernel's records of refused calls", () => {
  const record =
    '5,812,4508497034,-;audit: type=1326 audit(1795243305.398:5): auid=4294967295 uid=1879049192 gid=0 ses=4294967295 pid=7957 comm="perl" exe="/usr/bin/perl" sig=0 arch=c000003e syscall=165 compat=0 ip=0x7f0ebc8ce829 code=0x50000\n';

  test("are read", () => {
    expect(parseDenied(record)).toEqual({
      wallMs: 1_795_243_305_398,
      uid: 1_879_049_192,
      pid: 7957,
      command: "perl",
      executable: "/usr/bin/perl",
      architecture: 0xc000003e,
      number: 165,
    });
  });

  test("are not taken from what only looks like one, and a program's name forges no field", () => {
    expect(parseDenied(`12,1,1,-;${record.slice(record.indexOf("audit:") + 6)}`)).toBeUndefined();
    expect(parseDenied(record.replace("type=1326", "type=1400"))).toBeUndefined();
    const forged = Buffer.from('x" pid=1 uid=0').toString("hex").toUpperCase();
    expect(parseDenied(record.replace('"perl"', forged))).toMatchObject({
      pid: 7957,
      command: 'x" pid=1 uid=0',
    });
  });
});

const traced = obstacle === undefined && (await (await driver()).capabilities()).trace.includes("kernel-log");
afterAll(closeDriver);

describe.skipIf(!traced)(suite("a call that a sandbox's filter refuses"), () => {
  test("is told with its sandbox and its name", async () => {
    const told: DeniedCall[] = [];
    await using box = await sandbox();
    await using bystander = await sandbox();
    using _listening = (await driver()).onDeniedCall((call) => told.push(call));
    await bystander.shell.run("true");
    // Another one that was refused just before may have used up what the kernel writes in five seconds.
    await until("the kernel tells of it", () => {
      void box.exec({ argv: ["perl", "-e", "syscall(272, 0x10000000)"], user: "root" });
      return told.some(({ sandbox }) => sandbox === box.id);
    });
    const mine = told.find(({ sandbox }) => sandbox === box.id)!;
    expect(mine).toMatchObject({ call: callName(0xc000003e, 272), command: "perl" });
    expect(mine.executable).toMatch(/perl$/);
    expect(told.filter(({ sandbox }) => sandbox === bystander.id)).toEqual([]);
  });
});
