import { editDistance, suggest } from "@ale/core";
import { describe, expect, it } from "vitest";
import { defineUsage, oneOf, parseArguments, takeGlobals, wholeNumber } from "../src/args.ts";
import { findCommand } from "../src/commands.ts";
import { EXIT } from "../src/exit-codes.ts";
import { ale, temporaryHome } from "./support.ts";

const usage = defineUsage({
  positionals: "RECIPE [RUN]",
  options: {
    seed: { type: "string", value: "N", help: "seed of the run" },
    fresh: { type: "boolean", help: "start anew" },
    set: { type: "string", multiple: true, help: "override a field" },
  },
});

describe("a command line", () => {
  it("becomes typed values and positionals", () => {
    const { values, positionals } = parseArguments(usage, [
      "r.yaml",
      "--seed=3",
      "--set",
      "a=1",
      "--set",
      "b=2",
    ]);
    expect(values).toEqual({ seed: "3", fresh: false, set: ["a=1", "b=2"] });
    expect(positionals).toEqual(["r.yaml"]);
  });

  it("keeps what follows -- as it is", () => {
    expect(parseArguments(usage, ["--", "--seed"]).positionals).toEqual(["--seed"]);
    expect(takeGlobals(["run", "--", "--json"])).toMatchObject({
      globals: { json: false },
      rest: ["run", "--", "--json"],
    });
  });

  it.each([
    [["r", "--sede", "3"], "unknown option --sede", "did you mean --seed?"],
    [["r", "--seed"], "--seed needs a value", undefined],
    [["r", "--seed", "--fresh"], "--seed needs a value", undefined],
    [["r", "--fresh=yes"], "--fresh takes no value", undefined],
    [[], "RECIPE is missing", undefined],
    [["a", "b", "c"], "unexpected argument c", undefined],
  ])("refuses %j", (argv, message, next) => {
    expect(() => parseArguments(usage, argv)).toThrow(
      expect.objectContaining({ code: "usage", message, ...(next === undefined ? {} : { next }) }),
    );
  });

  it("takes global options from anywhere", () => {
    const { globals, rest } = takeGlobals(["episodes", "--json", "ls", "--home=/x", "-y"]);
    expect(globals).toEqual({ json: true, yes: true, verbose: false, help: false, home: "/x" });
    expect(rest).toEqual(["episodes", "ls"]);
  });

  it("reads whole numbers and words, and says what it expected otherwise", () => {
    expect(wholeNumber("--seed", "12")).toBe(12);
    expect(() => wholeNumber("--seed", "1.5")).toThrow("whole number");
    expect(() => wholeNumber("--rounds", "0", { min: 1, max: 9 })).toThrow("from 1 to 9");
    expect(oneOf("--purpose", "eval", ["train", "eval"])).toBe("eval");
    expect(() => oneOf("--purpose", "evla", ["train", "eval"])).toThrow(
      expect.objectContaining({ next: expect.stringContaining("did you mean eval?") }),
    );
  });
});

describe("suggestions", () => {
  it("count swapped neighbours as one slip", () => {
    expect(editDistance("sede", "seed")).toBe(1);
    expect(editDistance("", "abc")).toBe(3);
    expect(editDistance("kitten", "sitting")).toBe(3);
  });
  it("are made only for something near", () => {
    expect(suggest("epsiodes", ["doctor", "episodes"])).toBe("episodes");
    expect(suggest("doc", ["doctor", "episodes"])).toBe("doctor");
    expect(suggest("xyzzy", ["doctor", "episodes"])).toBeUndefined();
  });
});

describe("finding a command", () => {
  it("takes the longest name and leaves the rest", () => {
    expect(findCommand(["episodes", "show", "last"])).toMatchObject({
      type: "command",
      command: { name: "episodes show" },
      argv: ["last"],
    });
  });
  it("suggests within a group", () => {
    expect(() => findCommand(["episodes", "verfy"])).toThrow(
      expect.objectContaining({ next: "did you mean: ale episodes verify?" }),
    );
  });
});

describe("ale", () => {
  it("without a command shows all of them and ends with the usage code", async () => {
    const outcome = await ale(await temporaryHome());
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.stdout).toContain("episodes verify");
  });
  it("answers --help of every command without running it", async () => {
    const outcome = await ale(await temporaryHome(), "episodes", "ls", "--help");
    expect(outcome.exitCode).toBe(EXIT.ok);
    expect(outcome.stdout).toContain("usage: ale episodes ls [options]");
    expect(outcome.stdout).toContain("--violation");
  });
  it("says what a wrong word may have meant", async () => {
    const outcome = await ale(await temporaryHome(), "epsiodes");
    expect(outcome).toMatchObject({
      exitCode: EXIT.usage,
      stdout: "",
      stderr: "error: unknown command epsiodes\nnext:  did you mean: ale episodes?\n",
    });
  });
  it("answers a failure as JSON on the last line where that was asked for", async () => {
    const outcome = await ale(await temporaryHome(), "episodes", "ls", "--sede", "--json");
    expect(outcome.exitCode).toBe(EXIT.usage);
    expect(outcome.json()).toMatchObject({ ok: false, exitCode: EXIT.usage, error: { code: "usage" } });
  });
});
