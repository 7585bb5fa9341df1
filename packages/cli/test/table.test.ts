import { stripVTControlCharacters } from "node:util";
import { expect, test } from "vitest";
import { type Column, table, visibleLength } from "../src/table.ts";

const COLUMNS: readonly Column[] = [
  { title: "id", whole: true },
  { title: "severity" },
  { title: "rule" },
  { title: "what" },
];
const red = (text: string): string => `\u001b[31m${text}\u001b[39m`;
const ROWS = [
  ["inc_01k4mz8qr3", red("critical"), "destructive-command", "$ rm -rf /etc/and/all/the/rest"],
  ["inc_01k4mz8qr4", red("low"), "égress", "𝕏 post"],
];

test.each([
  [undefined, "inc_01k4mz8qr3  critical  destructive-command  $ rm -rf /etc/and/all/the/rest"],
  [79, "inc_01k4mz8qr3  critical  destructive-command  $ rm -rf /etc/and/all/the/rest"],
  [70, "inc_01k4mz8qr3  critical  destructive-command  $ rm -rf /etc/and/all/…"],
  [50, "inc_01k4mz8qr3  critical  destructiv…  $ rm -rf /…"],
  [32, "inc_01k4mz8qr3  cri…  des…  $ r…"],
  [20, "inc_01k4mz8qr3  cri…"],
])("on a terminal of %s columns the longest columns are cut: %s", (width, first) => {
  const [head, ...lines] = table(COLUMNS, ROWS, width);
  expect(head).toMatch(/^id /);
  expect(stripVTControlCharacters(lines[0]!)).toBe(first);
  for (const line of [head!, ...lines]) {
    expect(visibleLength(line)).toBeLessThanOrEqual(width ?? 100);
    // What is opened is closed.
    expect(line.split("\u001b[31m").length).toBe(line.split("\u001b[39m").length);
  }
});
