import { afterAll, describe, expect, test } from "vitest";
import { type AuditRecord, auditOfLog, auditRecord, deniedOf, SerialGaps } from "../src/host/audit-record.ts";
import { type AuditStream, KernelLog } from "../src/host/audit-streams.ts";
import {
  callName,
  DeniedLog,
  type DeniedTold,
  deniedCallsSource,
  tryDenied,
} from "../src/host/denied-calls.ts";
import { findTool } from "../src/host/tools.ts";
import type { DeniedCall } from "../src/index.ts";
import { closeDriver, driver, obstacle, sandbox, suite, until } from "./support.ts";

const TEXT =
  'audit(1795243305.398:5): auid=4294967295 uid=1879049192 gid=0 ses=4294967295 pid=7957 comm="perl" exe="/usr/bin/perl" sig=0 arch=c000003e syscall=165 compat=0 ip=0x7f0ebc8ce829 code=0x50000';

describe("the kernel's records of refused calls", () => {
  const line = `5,812,4508497034,-;audit: type=1326 ${TEXT}\n`;
  const parse = (text: string) => {
    const record = auditOfLog(text);
    return record && deniedOf(record);
  };

  test("are read, as messages and as lines of the log", () => {
    const record = auditRecord(1326, TEXT)!;
    expect(record.serial).toBe(5);
    expect(deniedOf(record)).toEqual({
      wallMs: 1_795_243_305_398,
      uid: 1_879_049_192,
      pid: 7957,
      command: "perl",
      executable: "/usr/bin/perl",
      architecture: 0xc000003e,
      number: 165,
    });
    expect(parse(line)).toEqual(deniedOf(record));
  });

  test("are not taken from what only looks like one, and a program's name forges no field", () => {
    expect(parse(`12,1,1,-;${line.slice(line.indexOf("audit:") + 6)}`)).toBeUndefined();
    expect(parse(line.replace("type=1326", "type=1400"))).toBeUndefined();
    const forged = Buffer.from('x" pid=1 uid=0').toString("hex").toUpperCase();
    expect(parse(line.replace('"perl"', forged))).toMatchObject({
      pid: 7957,
      command: 'x" pid=1 uid=0',
    });
  });
});

describe("records that are lost", () => {
  test.each([
    ["none", [5, 6, 6, 7], 0],
    ["none, handed over in another order", [5, 8, 6, 7, 9], 0],
    ["those between", [5, 8, 6, 20], 12],
    ["those between, where the numbers begin anew", [4_294_967_294, 2], 3],
    ["more than can be remembered", [1, 100_001], 99_999],
  ])("are counted by their numbers: %s", (_, serials, lost) => {
    const gaps = new SerialGaps();
    for (const [at, serial] of serials.entries()) gaps.see(serial, at);
    expect(gaps.take(1_000)).toBe(lost);
    expect(gaps.take(2_000)).toBe(0);
  });

  test("are not yet those that may still come", () => {
    const gaps = new SerialGaps();
    gaps.see(1, 0);
    gaps.see(3, 0);
    expect(gaps.take(10)).toBe(0);
    gaps.see(2, 11);
    expect(gaps.take(1_000)).toBe(0);
  });
});

describe("the audit and the kernel's log", () => {
  const stream = (source: AuditStream["source"], serials: number[], closed: string[]): AuditStream => ({
    source,
    next: (): AuditRecord | undefined => {
      const serial = serials.shift();
      return serial === undefined ? undefined : auditRecord(1326, TEXT.replace(":5)", `:${serial})`));
    },
    [Symbol.dispose]: () => void closed.push(source),
  });

  test.each([
    ["the audit alone, where it says anything", [1, 2, 3], [1, 2], ["audit", "audit", "audit"]],
    ["the log, where it says nothing", [], [1, 2], ["kernel-log", "kernel-log"]],
  ])("are read as one: %s", async (_, sent, logged, sources) => {
    const told: DeniedTold[] = [];
    const closed: string[] = [];
    using log = new DeniedLog(
      (one) => told.push(one),
      [stream("audit", sent, closed), stream("kernel-log", logged, closed)],
    );
    await log.settled();
    expect(told.map(({ source }) => source)).toEqual(sources);
    expect(closed).toEqual(sources[0] === "audit" ? ["kernel-log"] : []);
  });
});

const perl = findTool("perl") ?? "perl";
const logs = ((): readonly AuditStream[] | undefined => {
  try {
    return [new KernelLog()];
  } catch {
    return undefined;
  }
})();
const logged = logs !== undefined && (await deniedCallsSource(perl, logs)) === "kernel-log";

describe.skipIf(!logged)("the kernel's log", () => {
  test("tells how many it did not write with the next that it writes", async () => {
    let lost = 0;
    using _log = new DeniedLog(
      (told) => {
        lost += told.lost;
      },
      [new KernelLog()],
    );
    tryDenied(perl, 60);
    // The kernel's patience is renewed after five seconds.
    await until("the rest is counted", () => {
      tryDenied(perl);
      return lost >= 45;
    });
  }, 30_000);
});

const trace = obstacle === undefined ? (await (await driver()).capabilities()).trace : [];
afterAll(closeDriver);

describe.skipIf(trace.length === 0)(suite("a call that a sandbox's filter refuses"), () => {
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

  test.skipIf(!trace.includes("audit"))("is told each time, however many others there are", async () => {
    const told: DeniedCall[] = [];
    await using box = await sandbox();
    await using noisy = await sandbox();
    using _listening = (await driver()).onDeniedCall((call) => told.push(call));
    const attempts = (times: number) => ({
      argv: ["perl", "-e", `syscall(272, 0x10000000) for 1 .. ${times}`],
      user: "root",
    });
    await Promise.all([noisy.exec(attempts(500)), box.exec(attempts(3))]);
    const mine = () => told.filter((call) => call.sandbox === box.id && call.call === "unshare");
    await until("the kernel tells of them", () => mine().length === 3);
    await until("and of the others", () => told.filter((call) => call.sandbox === noisy.id).length >= 500);
    expect(told.every(({ source }) => source === "audit")).toBe(true);
    expect(told.reduce((sum, { lost }) => sum + lost, 0)).toBe(0);
  });
});
