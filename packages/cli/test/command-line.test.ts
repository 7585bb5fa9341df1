import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { editDistance, suggest } from "@ale/core";
import { describe, expect, it } from "vitest";
import { defineUsage, oneOf, parseArguments, takeGlobals, wholeNumber } from "../src/args.ts";
import { COMMANDS } from "../src/commands.ts";
import { EXIT } from "../src/exit-codes.ts";
import { findCommand } from "../src/find-command.ts";
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
    [["a", ""], "RUN is empty", undefined],
    [[" "], "RECIPE is empty", undefined],
    [["r", "--seed", "\u00a0"], "--seed is empty", "--seed N: seed of the run"],
    [["r", "--set=a", "--set="], "--set is empty", undefined],
    [["r", "--json=1"], "--json takes no value", undefined],
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

  it.each([["--home="], ["--home"]])("refuses %s, which would be wherever one stands", (word) => {
    expect(() => takeGlobals(["rock", "ls", word])).toThrow(expect.objectContaining({ code: "usage" }));
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

describe("a verb's module", () => {
  it.each(COMMANDS.map((command) => [command.name, command] as const))(
    "of %s has a usage and something to run",
    async (_name, command) => {
      expect(await command.load()).toMatchObject({ usage: expect.anything(), run: expect.any(Function) });
    },
  );

  it("is loaded only when the verb is called, and a client loads nothing that makes sandboxes", async () => {
    const home = await temporaryHome();
    const atHelp = sourcesLoadedBy(home, "--help");
    expect(atHelp).toContainEqual("cli/src/commands.ts");
    expect(atHelp).not.toContainEqual(expect.stringMatching(/commands\//));
    const loaded = sourcesLoadedBy(home, "rock", "ls");
    expect(loaded).toContainEqual("cli/src/commands/rock-ls.ts");
    expect(loaded).not.toContainEqual(
      expect.stringMatching(/^(roll|bench|guard|flow|rock\/src\/(oci|image))/),
    );
  });
});

const WITNESS = String.raw`
import { registerHooks } from "node:module";
registerHooks({ load(url, context, next) {
  const source = /packages\/(.*)$/.exec(url)?.[1];
  if (source !== undefined) process.stderr.write("loaded " + source + "\n");
  return next(url, context);
} });`;

/** Of this repository, as a fresh process loads them. */
function sourcesLoadedBy(home: string, ...argv: string[]): string[] {
  const main = join(import.meta.dirname, "../src/main.ts");
  const witness = `data:text/javascript,${encodeURIComponent(WITNESS)}`;
  const { stderr } = spawnSync(process.execPath, ["--import", witness, main, "--home", home, ...argv], {
    encoding: "utf8",
  });
  return [...stderr.matchAll(/^loaded (.*)$/gm)].map((match) => match[1]!);
}

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
