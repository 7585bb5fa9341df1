import { describe, expect, it } from "vitest";
import { secondLook } from "../../../scripts/second-look.ts";
import { sum, tallyCheck, tallyJunit, tallyLine, tallyVitest } from "../../../scripts/tally.ts";

const vitest = (over: object): string =>
  JSON.stringify({
    numPassedTests: 3,
    numFailedTests: 0,
    numPendingTests: 0,
    numTodoTests: 0,
    testResults: [],
    ...over,
  });
const junit = (attributes: string): string =>
  `<?xml version="1.0"?><testsuites name="pytest tests"><testsuite name="pytest" ${attributes}></testsuite></testsuites>`;

describe("the last line of ./test", () => {
  it("sums passed, failed and skipped over the suites and the single checks", () => {
    const total = sum([
      tallyVitest(vitest({ numFailedTests: 1, numPendingTests: 2 })),
      tallyJunit(junit('errors="1" failures="1" skipped="1" tests="10"')),
      tallyCheck("biome", 0, null),
      tallyCheck("tsc", 2, null),
    ]);
    expect(tallyLine(total)).toBe("11 passed, 4 failed, 3 skipped");
  });

  it("leaves out what was not skipped", () => {
    expect(tallyLine({ passed: 2, failed: 0, skipped: 0 })).toBe("2 passed, 0 failed");
  });
});

describe("a suite that ends badly counts as failed", () => {
  it("when it left no report", () => {
    expect(tallyCheck("pytest", 139, null)).toEqual({ passed: 0, failed: 1, skipped: 0 });
  });
  it("when its report is torn", () => {
    expect(tallyCheck("vitest", 0, '{"numPassed').failed).toBe(1);
    expect(tallyCheck("pytest", 0, "").failed).toBe(1);
  });
  it("when all its tests passed but the run did not", () => {
    expect(tallyCheck("vitest", 1, vitest({}))).toEqual({ passed: 3, failed: 1, skipped: 0 });
  });
  it("when a test file could not be loaded", () => {
    const report = vitest({ testResults: [{ status: "failed", assertionResults: [] }] });
    expect(tallyVitest(report).failed).toBe(1);
  });
  it("but not twice when it names the failed test", () => {
    const report = vitest({
      numFailedTests: 1,
      testResults: [{ status: "failed", assertionResults: [{ status: "failed" }] }],
    });
    expect(tallyCheck("vitest", 1, report).failed).toBe(1);
  });
});

describe("a second look at what failed", () => {
  const failed = (...names: string[]) => ({
    numFailedTests: names.length,
    testResults: names.map((name) => ({
      name: `/repo/${name}`,
      status: "failed",
      assertionResults: [{ status: "failed" }],
    })),
  });

  it.each([
    [["packages/rock/test/sessions.test.ts"], ["packages/rock/test/sessions.test.ts"]],
    [["a/1.test.ts", "a/2.test.ts", "a/3.test.ts", "a/4.test.ts"], null],
    [["packages/rock/test/containment/files.test.ts"], null],
    [["packages/rock/test/egress/doors.test.ts"], null],
    [["packages/roll/test/incident.test.ts"], null],
    [["a/1.test.ts", "packages/rock/test/network-life.test.ts"], null],
    [[], null],
  ])("at %j is at %j", (names, again) => {
    expect(secondLook(vitest(failed(...names)), "/repo")).toEqual(again);
  });

  it("is none where a file could not be loaded", () => {
    const broken = vitest({
      testResults: [{ name: "/repo/a.test.ts", status: "failed", assertionResults: [] }],
    });
    expect(secondLook(broken, "/repo")).toBeNull();
  });

  it.each([
    ["passes alone", 0, vitest({ numPassedTests: 9 }), { passed: 4, failed: 0, skipped: 0 }],
    ["fails again", 1, vitest(failed("a.test.ts")), { passed: 3, failed: 1, skipped: 0 }],
    ["ends badly", 1, vitest({ numPassedTests: 9 }), { passed: 4, failed: 1, skipped: 0 }],
    ["leaves no report", 1, null, { passed: 3, failed: 1, skipped: 0 }],
  ])("that %s counts so", (_, exitCode, again, tally) => {
    expect(tallyCheck("vitest", exitCode, vitest(failed("a.test.ts")), again)).toEqual(tally);
  });
});
