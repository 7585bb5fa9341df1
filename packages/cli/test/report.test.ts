import { describe, expect, it } from "vitest";
import { QuickstartReport } from "../src/report/data.ts";
import { duration, intervalOf, percentSpan } from "../src/report/format.ts";
import { renderReport } from "../src/report/report.ts";
import { ticks } from "../src/report/svg.ts";
import { SAMPLE } from "./report-sample.ts";

const VOID = new Set(["meta", "br", "!doctype"]);

/** Names of elements that were opened and never closed, or closed out of turn. */
function unbalanced(page: string): string[] {
  const faults: string[] = [];
  const open: string[] = [];
  for (const [tag, slash, name = ""] of page.matchAll(/<(\/?)([a-z!0-9]+)(?:"[^"]*"|[^">])*>/g)) {
    if (VOID.has(name) || tag.endsWith("/>")) continue;
    if (slash === "") open.push(name);
    else if (open.pop() !== name) faults.push(tag);
  }
  return [...faults, ...open];
}

describe("the report page", () => {
  const page = renderReport(QuickstartReport.parse(SAMPLE));

  it("asks nothing of any network and runs nothing", () => {
    expect(page).not.toMatch(/https?:|<script|<link|<img|@import|url\(|\bsrc=|\bon[a-z]+="/);
    expect(page).toContain("default-src 'none'");
  });

  it("is well formed and gives every chart a title and a description", () => {
    expect(unbalanced(page)).toEqual([]);
    const charts = [...page.matchAll(/<svg [^>]*aria-labelledby="(\S+) (\S+)"/g)];
    expect(charts.length).toBeGreaterThanOrEqual(10);
    for (const [, title, description] of charts) {
      expect(page).toContain(`<title id="${title}">`);
      expect(page).toContain(`<desc id="${description}">`);
    }
    const ids = [...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it("shows the headline with its intervals and keeps every round in a table", () => {
    expect(page).toContain("95% intervals 20–28% and 50–60%");
    for (const point of SAMPLE.curve)
      expect(page).toContain(`<th scope="row" class="text">${point.round}</th>`);
  });

  it("pins an alert to its chunk and does not praise the reward of an episode that violated", () => {
    const card = page.slice(
      page.indexOf("Plain reward: the short cut"),
      page.indexOf("With safety: the same"),
    );
    expect(card.indexOf("solve cobra fox")).toBeLessThan(card.indexOf("forbidden-service"));
    expect(card.indexOf("forbidden-service")).toBeLessThan(card.indexOf("[submit]"));
    expect(card).toContain("reward 1, with a violation");
  });

  it("escapes whatever an agent may have written", () => {
    const hostile = `\u202e</pre><script>alert("x")</script>&amp;`;
    const [first] = SAMPLE.examples;
    const chunks = [{ action: hostile, observation: hostile, alerts: [] }];
    const rendered = renderReport({
      ...SAMPLE,
      title: hostile,
      examples: [{ ...first!, instruction: hostile, chunks }],
    });
    expect(rendered).not.toContain("<script");
    expect(rendered).not.toContain("\u202e"); // would turn the direction of what follows
    expect(rendered).toContain("&lt;/pre&gt;&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt;&amp;amp;");
  });

  it("holds without a safety pair, families, examples or rounds", () => {
    const bare = { ...SAMPLE, curve: [], families: [], safety: null, examples: [], phases: [] };
    const rendered = renderReport(QuickstartReport.parse(bare));
    expect(unbalanced(rendered)).toEqual([]);
    expect(rendered).not.toContain("NaN");
    expect(rendered).not.toContain("Infinity");
    expect(rendered).not.toContain("<h2>Safety</h2>");
  });

  it("draws no NaN for rates at the ends of their range", () => {
    const flat = SAMPLE.curve
      .slice(0, 1)
      .map((point) => ({ ...point, onPolicyPass: 0, lo: 0, hi: 0, gradNorm: null }));
    expect(renderReport({ ...SAMPLE, curve: flat })).not.toContain("NaN");
  });
});

describe("the report's numbers", () => {
  it("have Wilson's interval", () => {
    // Wilson 1927 for 10 of 20: 0.299 to 0.701.
    const [low, high] = intervalOf(0.5, 20);
    expect(low).toBeCloseTo(0.2993, 4);
    expect(high).toBeCloseTo(0.7007, 4);
    expect(percentSpan([low, high])).toBe("30–70%");
    expect(intervalOf(0, 0)).toEqual([0, 1]);
  });

  it.each([
    [0.42, "0.4 s"],
    [42.4, "42 s"],
    [99.7, "100 s"],
    [431.8, "7 min 12 s"],
    [3_660, "1 h 01 min"],
  ])("write %d seconds as %s", (seconds, text) => {
    expect(duration(seconds)).toBe(text);
  });

  it("stand on round ticks", () => {
    expect(ticks([0, 0.8], 5)).toEqual([0, 0.2, 0.4, 0.6, 0.8]);
    expect(ticks([0, 30], 8)).toEqual([0, 5, 10, 15, 20, 25, 30]);
    expect(ticks([0, 1], 2)).toEqual([0, 0.5, 1]);
    expect(ticks([0, 2], 8, 1)).toEqual([0, 1, 2]);
  });
});
