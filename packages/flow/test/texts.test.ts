import { join } from "node:path";
import { ContextProfile, profileHash } from "@ale/core";
import { describe, expect, test } from "vitest";
import { nanoProfile, standardProfile, texts } from "../src/index.ts";

/**
 * What models read is frozen here: a policy is trained on these very words, so a change of one is a change of what it knows. Run
 * vitest with -u only when that is what you want.
 */
const golden = (name: string): string => join(import.meta.dirname, "golden", name);
const template = "0".repeat(64);

describe("the texts that a model reads", () => {
  test("of tools and errors", () => {
    const values = Object.entries(texts).map(([key, text]) => [
      key,
      typeof text === "string"
        ? text
        : (text as (value: unknown) => string)(key === "unknownArguments" ? ["a", "b"] : 7),
    ]);
    expect(Object.fromEntries(values)).toEqual({
      exit: "exit 7",
      timeout: "timeout",
      done: "ok",
      submitted: "ok",
      malformed: "error: 7",
      unknownTool: "error: unknown tool 7",
      missingArgument: "error: no value for 7",
      wrongArgument: "error: 7 is not string",
      unknownArguments: "error: unknown argument a b",
      noMatch: "error: no match",
      manyMatches: "error: 7 matches",
      emptyOld: "error: old is empty",
      notEditable: "error: file is too large or not text",
      stopped: "stopped",
      cut: "\n[7 characters cut]\n",
    });
    expect(texts.exit(null)).toBe("killed");
  });

  test.each([nanoProfile(template), standardProfile(template)])("of the profile $name", async (profile) => {
    expect(ContextProfile.parse(profile)).toEqual(profile);
    await expect(`${JSON.stringify(profile, null, 2)}\n`).toMatchFileSnapshot(
      golden(`${profile.name}-profile.golden`),
    );
  });

  test("are part of the profile's identity", () => {
    const profile = standardProfile(template);
    expect(profileHash(profile)).not.toBe(
      profileHash({ ...profile, systemPrompt: `${profile.systemPrompt} ` }),
    );
    expect(profileHash(profile)).not.toBe(profileHash(standardProfile("1".repeat(64))));
  });
});
