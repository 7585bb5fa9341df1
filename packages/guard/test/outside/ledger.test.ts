import { expect, it } from "vitest";
import { NOTHING } from "../../src/outside/alarm.ts";
import { type AlarmLine, OutsideAlarmLine, standingAlarms } from "../../src/outside/ledger.ts";

const line = (
  seq: number,
  status: OutsideAlarmLine["status"],
  digest: string,
  supersedes?: number,
): AlarmLine => ({
  seq,
  hash: String(seq),
  line: {
    type: "outside.alarm",
    alarm: { ...NOTHING, id: "fw:1", at: 1, source: "suricata", title: "t", severity: "low", raw: null },
    digest,
    status,
    places: [],
    unexplained: 1,
    skewMs: 0,
    ...(supersedes === undefined ? {} : { supersedes }),
  },
});

it.each<[what: string, lines: AlarmLine[], standing: number[]]>([
  [
    "by its last landing",
    [
      line(1, "unmatched", "a"),
      line(2, "unmatched", "b"),
      line(4, "ambiguous", "a", 1),
      line(6, "matched", "a", 4),
    ],
    [2, 6],
  ],
  ["not by the landing of another", [line(1, "unmatched", "a"), line(2, "matched", "b", 1)], [1, 2]],
  ["as it was matched once", [line(1, "matched", "a"), line(2, "unmatched", "a", 1)], [1, 2]],
])("an alarm stands %s", (_, lines, standing) => {
  expect(standingAlarms(lines).map(({ seq }) => seq)).toEqual(standing);
});

it("reads lines that were written before alarms had sensors", () => {
  const {
    sensor: _,
    containers: __,
    program: ___,
    path: ____,
    durationMs: _____,
    ...alarm
  } = line(1, "unmatched", "a").line.alarm;
  expect(OutsideAlarmLine.parse({ ...line(1, "unmatched", "a").line, alarm }).alarm).toMatchObject(NOTHING);
});
