import { describe, expect, test } from "vitest";
import { parseDockerfile } from "../src/image/dockerfile.ts";
import { expandWord, splitWords } from "../src/image/dockerfile-words.ts";

const parse = (...lines: readonly string[]) => parseDockerfile(lines.join("\n")).instructions;

describe("reading a Dockerfile", () => {
  test("continuations are joined, comments and empty lines inside them are not their end", () => {
    const [, run, next] = parse(
      "FROM scratch",
      "run apt-get update && \\",
      "    # why this package",
      "",
      "    apt-get install -y \\   ",
      "    curl",
      "USER me",
    );
    expect(run).toMatchObject({ keyword: "RUN", line: 2 });
    expect(run!.text.replace(/\s+/g, " ")).toBe("apt-get update && apt-get install -y curl");
    expect(next).toMatchObject({ keyword: "USER", line: 7, text: "me" });
  });

  test("a directive changes the escape character; syntax and plain comments change nothing", () => {
    const file = parseDockerfile("# syntax=docker/dockerfile:1\n# escape=`\nFROM scratch\nRUN a `\n b\n");
    expect(file.escapeMark).toBe("`");
    expect(file.instructions[1]!.text).toBe("a  b");
    expect(parseDockerfile("# a comment\n# escape=`\nFROM scratch").escapeMark).toBe("\\");
  });

  test("here-documents end at their word, keep their lines, and say whether variables are meant", () => {
    const [, run, copy] = parse(
      "FROM scratch",
      "RUN <<EOF",
      "echo '# no comment' \\",
      "FROM nothing",
      "EOF",
      'COPY <<-"A" <<B /dest/',
      "\tone $x",
      "\tA",
      "two",
      "B",
    );
    expect(run!.heredocs).toEqual([
      { name: "EOF", expand: true, content: "echo '# no comment' \\\nFROM nothing\n" },
    ]);
    expect(copy!.heredocs).toEqual([
      { name: "A", expand: false, content: "one $x\n" },
      { name: "B", expand: true, content: "two\n" },
    ]);
  });

  test("flags are taken from the front, the JSON form is known, and what only looks like it is not", () => {
    const [, copy, run, shell] = parse(
      "FROM scratch",
      "COPY --from=build --chown=me:us a b",
      'RUN ["echo", "a b"]',
      "RUN [ -e /x ] && echo yes",
    );
    expect(copy!.flags).toEqual([
      { name: "from", value: "build" },
      { name: "chown", value: "me:us" },
    ]);
    expect(run!.json).toEqual(["echo", "a b"]);
    expect(shell!.json).toBeUndefined();
  });

  test.each([
    [
      "an unknown instruction",
      "FROM scratch\nRUNN ls",
      "Dockerfile:2: unknown instruction RUNN",
      "did you mean RUN?",
    ],
    [
      "a here-document without end",
      "FROM scratch\nRUN <<EOF\nls",
      "Dockerfile:2: the here-document EOF is never closed",
      "EOF",
    ],
    ["nothing", "# only\n# comments\n", "Dockerfile:1: it has no instructions", "FROM"],
    ["another escape", "# escape=x\nFROM scratch", "Dockerfile:1: escape is either", undefined],
  ])("%s is refused with its line and what to do", (_, source, message, next) => {
    let thrown: unknown;
    try {
      parseDockerfile(source);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: "dockerfile-invalid", message: expect.stringContaining(message) });
    if (next !== undefined) expect(thrown).toMatchObject({ next: expect.stringContaining(next) });
  });
});

describe("words of a Dockerfile", () => {
  const values: Readonly<Record<string, string>> = { name: "ale", empty: "", path: "/a b" };
  /** `@` stands for the dollar sign. */
  const dollars = (text: string) => text.replaceAll("@", "\u0024");
  const expand = (word: string) => expandWord(dollars(word), (name) => values[name], "\\");

  test.each([
    ["@name-@name", "ale-ale"],
    ["@{name}x", "alex"],
    ["@{nothing:-@{name}}", "ale"],
    ["@{empty:-filled}", "filled"],
    ["@{empty-filled}", ""],
    ["@{name:+yes}", "yes"],
    ["@{nothing:+yes}", ""],
    ["'@name'", "@name"],
    ['"@path"', "/a b"],
    ["\\@name", "@name"],
    ['"a \\"b\\" \\x"', 'a "b" \\x'],
    ["a@", "a@"],
  ])("%s means %s", (word, meaning) => {
    expect(expand(word)).toBe(dollars(meaning));
  });

  test("a variable that has to be set, or a form that is unknown, is an error", () => {
    expect(() => expand("@{nothing:?set it}")).toThrow("nothing is not set: set it");
    expect(() => expand("@{name#a}")).toThrow("is not supported");
    expect(() => expand("@{name")).toThrow("is no variable");
    expect(() => expand("'open")).toThrow("never closed");
  });

  test("words are split outside quotes and keep them", () => {
    expect(splitWords(`a="b c" d='e f' g\\ h`, "\\")).toEqual([`a="b c"`, `d='e f'`, "g\\ h"]);
  });
});
