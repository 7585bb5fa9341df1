import { DOMAINS, seededRandom } from "@ale/core";
import { describe, expect, it } from "vitest";
import type { Action, Task } from "../src/index.ts";
import {
  contentDigest,
  expertPolicy,
  FAMILIES,
  heldoutSet,
  makeTask,
  NAMES,
  NANO_WORDS,
  pieces,
  splitOf,
  unknownPieces,
} from "../src/index.ts";

const SPLITS = ["train", "heldout", "secret"] as const;
const families = [...FAMILIES.values()];

/** Every text of an action that a policy would have to write. */
const textsOf = (action: Action): string[] => [
  action.name,
  ...Object.values(action.arguments).map((value) => String(value)),
];

/** The reference actions when every observation is empty: plans then fall back on what the task knows. */
const blindActions = (task: Task): Action[] => task.plan.map((step) => step([]).right);

describe("words", () => {
  it("has about 120 names, none containing another, none that is also another word", () => {
    expect(NAMES.length).toBeGreaterThanOrEqual(110);
    for (const a of NAMES)
      for (const b of NAMES) if (a !== b) expect(a.includes(b), `${b} in ${a}`).toBe(false);
    expect(new Set(NANO_WORDS).size).toBe(NANO_WORDS.length);
    const others = NANO_WORDS.slice(NAMES.length);
    expect(others.filter((word) => NAMES.includes(word))).toEqual([]);
  });

  it("lists only whole pieces", () => {
    for (const word of NANO_WORDS) expect(pieces(word)).toEqual([word]);
  });

  it("cuts text without losing any of it", () => {
    const text = "echo $((45*76)) > fox\nA-b_c é 12";
    expect(pieces(text).join("")).toBe(text);
    expect(pieces("sort -nk2 moss | tail -1")).toEqual([
      "sort",
      " -",
      "nk",
      "2",
      " ",
      "moss",
      " | ",
      "tail",
      " -",
      "1",
    ]);
  });
});

describe.each(families.map((family) => [family.id, family] as const))("family %s", (id, family) => {
  it("writes instructions and reference actions (right and wrong) in the closed vocabulary, and shortly", () => {
    for (let seed = 0; seed < 400; seed++) {
      const task = makeTask(id, "train", seed);
      const texts = [task.instance.instruction];
      for (const step of task.plan) {
        const { right, wrong } = step([]);
        for (const action of [right, ...wrong]) texts.push(...textsOf(action));
      }
      for (const action of task.shortcut ?? []) texts.push(...textsOf(action));
      for (const text of texts) {
        expect(unknownPieces(text), text).toEqual([]);
        expect(pieces(text).length, text).toBeLessThanOrEqual(24);
      }
    }
  });

  it("is a pure function of family, split and seed", () => {
    for (const split of SPLITS) {
      const one = makeTask(id, split, 7, { salt: "a" });
      const two = makeTask(id, split, 7, { salt: "a" });
      expect(contentDigest(one.instance)).toBe(contentDigest(two.instance));
      expect(blindActions(one)).toEqual(blindActions(two));
      expect(one.instance.id).toBe(`${id}/${split}/7`);
    }
  });

  it("never makes the same task in two splits, and seldom twice in one", () => {
    const owner = new Map<string, string>();
    let repeats = 0;
    let made = 0;
    for (const [split, count] of [
      ["train", 1200],
      ["heldout", 200],
      ["secret", 200],
    ] as const)
      for (let seed = 0; seed < count; seed++) {
        const digest = contentDigest(makeTask(id, split, seed, { salt: "test" }).instance);
        const before = owner.get(digest);
        if (before !== undefined) expect(before, `${digest} in two splits`).toBe(split);
        if (before !== undefined) repeats++;
        owner.set(digest, split);
        made++;
      }
    // With 10^4 equally likely tasks, 1200 + 200 + 200 draws (from 3/4, 1/8 and 1/8 of them) repeat about 125 times.
    expect(repeats, `${repeats} of ${made}`).toBeLessThan(80);
  });

  it("has a submission last, at least three distinct mutants, the no-op among them", () => {
    const task = makeTask(id, "train", 3);
    expect(task.plan.length).toBe(family.chunks);
    expect(task.instance.referenceChunks).toBe(family.chunks);
    expect(blindActions(task).at(-1)?.name).toBe("submit");
    expect(task.mutants.length).toBeGreaterThanOrEqual(4);
    expect(new Set(task.mutants.map((mutant) => JSON.stringify(mutant.actions))).size).toBe(
      task.mutants.length,
    );
    expect(task.mutants[0]?.actions.map((action) => action.name)).toEqual(["submit"]);
    for (const mutant of task.mutants) expect(mutant.actions.at(-1)?.name).toBe("submit");
  });

  it("guards what its shortcut needs, and the shortcut is shorter than the plan", () => {
    const task = makeTask(id, "train", 5);
    expect(task.shortcut !== null).toBe(family.tempting);
    expect(task.instance.protectedPaths.length > 0).toBe(family.tempting);
    if (task.shortcut === null) return;
    const cost = (actions: readonly Action[]) =>
      actions.flatMap(textsOf).reduce((sum, text) => sum + pieces(text).length, 0);
    expect(task.shortcut.length).toBeLessThan(task.plan.length);
    expect(cost(task.shortcut)).toBeLessThan(cost(blindActions(task)));
  });

  it("keeps the verifier out of the files that the agent starts with", () => {
    const { instance } = makeTask(id, "heldout", 2);
    expect(instance.files.some(({ path }) => path.startsWith("/tests") || path.startsWith("/logs"))).toBe(
      false,
    );
    expect(instance.verifier.files.map(({ path, owner }) => [path, owner])).toEqual([
      ["/tests/test.sh", "root"],
    ]);
  });
});

describe("registry", () => {
  it("covers every domain, with at least ten families, three long ones and three tempting ones", () => {
    expect(families.length).toBeGreaterThanOrEqual(10);
    expect(new Set(families.map((family) => family.domain))).toEqual(new Set(DOMAINS));
    expect(families.filter((family) => family.chunks >= 8).length).toBeGreaterThanOrEqual(3);
    expect(families.filter((family) => family.tempting).length).toBeGreaterThanOrEqual(3);
  });

  it("makes other secret tasks with another salt", () => {
    const digests = (salt: string) =>
      Array.from({ length: 20 }, (_, seed) =>
        contentDigest(makeTask("sci", "secret", seed, { salt }).instance),
      );
    const shared = digests("one").filter((digest) => digests("two").includes(digest));
    expect(shared).toEqual([]);
  });

  it("gives the same balanced held-out set every time", () => {
    const tasks = heldoutSet(families.length * 3);
    expect(tasks.map((task) => task.instance.id)).toEqual(
      heldoutSet(families.length * 3).map((task) => task.instance.id),
    );
    for (const family of families)
      expect(tasks.filter((task) => task.instance.family === family.id).length).toBe(3);
    for (const task of tasks) expect(splitOf(task.instance)).toBe("heldout");
  });

  it("names the families when asked for one that does not exist", () => {
    expect(() => makeTask("nope", "train", 0)).toThrow(/no task family "nope"/);
    expect(() => makeTask("sci", "train", -1)).toThrow(/non-negative/);
  });
});

describe("expert", () => {
  it("without noise follows the plan to its end", () => {
    const task = makeTask("swe", "train", 1);
    const expert = expertPolicy(task, { noise: 0, shortcutRate: 0, random: seededRandom(1) });
    const observations: string[] = [];
    const actions: Action[] = [];
    for (let step = expert(observations); step !== null; step = expert(observations)) {
      expect(step.kind).toBe("right");
      actions.push(step.action);
      observations.push("");
    }
    expect(actions).toEqual(blindActions(task));
  });

  it("with noise n errs at a decision among k actions with probability n (k - 1) / k", () => {
    const task = makeTask("security", "train", 1);
    const random = seededRandom("noise");
    const rounds = 4000;
    let wrong = 0;
    for (let i = 0; i < rounds; i++) {
      const step = expertPolicy(task, { noise: 0.75, shortcutRate: 0, random })([]);
      if (step?.kind === "wrong") wrong++;
      expect(step?.alternatives).toBe(2);
    }
    // 0.375 with a standard error of 0.0077.
    expect(Math.abs(wrong / rounds - 0.375)).toBeLessThan(0.03);
  });

  it("takes the shortcut at its rate, in tempting families only", () => {
    const random = seededRandom("shortcut");
    const kinds = (id: string) =>
      Array.from(
        { length: 1000 },
        (_, seed) =>
          expertPolicy(makeTask(id, "train", seed % 10), { noise: 0, shortcutRate: 0.2, random })([])?.kind,
      ).filter((kind) => kind === "shortcut").length;
    expect(Math.abs(kinds("debug") - 200)).toBeLessThan(50);
    expect(kinds("swe")).toBe(0);
  });
});
