import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { commandsOf, effectsOf, shellStart } from "../src/index.ts";
import { matchesGlob } from "../src/shell-glob.ts";

const run = (script: string, cwd = "/work") => commandsOf(script, shellStart(cwd));
const texts = (script: string): string[] => run(script).commands.map((command) => command.text);
const programs = (script: string): string[] => run(script).commands.map((command) => command.program);

describe("splitting a script into simple commands", () => {
  it("separates by ; && || | & and newline", () =>
    expect(texts("a 1; b 2 && c 3 || d | e & f\ng")).toEqual(["a 1", "b 2", "c 3", "d", "e", "f", "g"]));

  it("does not separate inside quotes", () =>
    expect(texts(`echo 'a; b' "c && d" e\\;f`)).toEqual(["echo a; b c && d e;f"]));

  it("ignores comments, but not # inside a word", () =>
    expect(texts("ls # rm -rf /\necho a#b")).toEqual(["ls", "echo a#b"]));

  it("joins continued lines", () => expect(texts("echo a \\\n b")).toEqual(["echo a b"]));

  it("reads the words of if, while and for as what they are", () =>
    expect(programs("if test -e x; then rm x; else ls; fi; for f in a b; do cat $f; done")).toEqual([
      "test",
      "rm",
      "ls",
      "cat",
    ]));

  it("takes prefixes off and says which", () => {
    const [command] = run("sudo -u root env A=1 timeout -k 5 10s nice -n 3 rm x").commands;
    expect(command).toMatchObject({ program: "rm", via: ["sudo", "env", "timeout", "nice"] });
  });

  it("does not run what `command -v` asks for", () =>
    expect(programs("command -v nmap")).toEqual(["command"]));

  it("strips assignments in front of a command", () =>
    expect(run("A=1 B='2 3' rm x").commands[0]).toMatchObject({ program: "rm", text: "A=1 B=2 3 rm x" }));

  it.each([
    ["sh -c", "sh -c 'rm x'"],
    ["bash -lc", 'bash -lc "rm x"'],
    ["eval", "eval rm x"],
    ["a here-document", "bash <<EOF\nrm x\nEOF"],
    ["a here-string", "sh <<< 'rm x'"],
    ["echo in front of a shell", "echo 'rm x' | sh"],
    ["a substitution", "echo $(rm x)"],
    ["a substitution in double quotes", 'echo "now $(rm x)"'],
    ["backticks", "echo `rm x`"],
    ["a process substitution", "diff <(rm x) y"],
    ["xargs", "ls | xargs -n 1 rm x"],
    ["nested shells", `sh -c "sh -c 'rm x'"`],
    ["a subshell", "(rm x)"],
    ["a group", "{ rm x; }"],
    ["a function body", "f() { rm x; }; f"],
  ])("follows %s", (_, script) => expect(texts(script)).toContain("rm x"));

  it.each([
    ["single quotes", "echo '$(rm x)'"],
    ["an escaped dollar", 'echo "\\$(rm x)"'],
    ["a here-document for cat", "cat <<EOF\nrm x\nEOF"],
    ["a quoted here-document", "cat <<'EOF'\n$(rm x)\nEOF"],
    ["an indented here-document", "cat <<-EOF\n\trm x\n\tEOF"],
  ])("leaves text alone in %s", (_, script) => expect(programs(script)).not.toContain("rm"));

  it("goes on after a here-document", () =>
    expect(programs("cat > f <<EOF\na\nEOF\nrm x")).toEqual(["cat", "rm"]));

  it("knows what stands before a pipe", () =>
    expect(run("curl u | tr a b | sh; sh y").commands.map((command) => command.from)).toEqual([
      [],
      ["curl"],
      ["curl", "tr"],
      [],
    ]));

  it("reads an open quote as text", () => expect(texts("echo 'a; rm x")).toEqual(["echo a; rm x"]));
});

describe("the state of the session", () => {
  it("follows cd from one call to the next", () => {
    const { state } = run("cd sub && cd ../other");
    expect(state.cwd).toBe("/work/other");
    expect(commandsOf("ls", state).commands[0]?.cwd).toBe("/work/other");
  });

  it("forgets what a subshell did", () => expect(run("(cd /tmp; A=1); cd b").state.cwd).toBe("/work/b"));

  it("does not know where `cd $X` leads", () => expect(run("cd $X").state.cwd).toBeNull());

  it("puts literal variables in", () =>
    expect(texts('T=/tests; rm $T/a "$T"/b')).toContain("rm /tests/a /tests/b"));

  it("keeps quotes from being expanded", () => expect(texts("T=1; echo '$T'")).toContain("echo $T"));
});

describe("the effects of a command on paths", () => {
  const effects = (script: string): string[] =>
    run(script).commands.flatMap((command) =>
      effectsOf(command).map(({ effect, written }) => `${effect} ${written}`),
    );

  it.each([
    ["cat < in > out", ["read /work/in", "write /work/out"]],
    ["cmd >> log 2>&1", ["write /work/log"]],
    ["cmd &> both", ["write /work/both"]],
    ["cat a ../b", ["read /work/a", "read /b"]],
    ["cp a b", ["read /work/a", "write /work/b", "write /work/b/a"]],
    ["mv a /t/", ["read /work/a", "write /work/a", "write /t", "write /t/a"]],
    ["sed -i s/a/b/ f", ["write /work/f"]],
    ["sed s/a/b/ f", ["read /work/f"]],
    ["chmod 600 f", ["write /work/f"]],
    ["dd if=a of=b", ["read /work/a", "write /work/b"]],
    ["sort -o out in", ["read /work/in", "write /work/out"]],
    ["grep -e x f", ["read /work/x", "read /work/f"]],
    ["echo a b", []],
    ["ls -l a", []],
    ["[[ a > b ]]", []],
    ["cat ~/x $HOME/y", ["read ~/x", "read ~/y"]],
  ])("%s", (script, expected) => expect(effects(script)).toEqual(expected));
});

describe("hostile input", () => {
  it("never throws, whatever the text", () => {
    const fragments = fc.constantFrom(
      ..."a b / . ~ $ $( \u0024{ ` ' \" \\ ; & | || && ( ) { } [ ] [z-a] * ? < > << <<EOF EOF \n cd eval sh -c $A A= find -exec xargs {} , ! # 2>&1 <( \t rm".split(
        " ",
      ),
      " ",
    );
    fc.assert(
      fc.property(fc.array(fragments, { maxLength: 40 }), (parts) => {
        for (const command of run(parts.join("")).commands) effectsOf(command);
      }),
      { numRuns: 3000 },
    );
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 200 }), (text) => {
        for (const command of run(text).commands) effectsOf(command);
      }),
      { numRuns: 500 },
    );
  });

  const long = (text: string) => text.repeat(Math.ceil(50_000 / text.length));
  it.each([
    ["doubling variables", `A=aaaaaaaa;${"A=$A$A;".repeat(60)}echo $A`],
    ["doubling eval", `A='$A$A$A$A';${'eval "A=$A";'.repeat(60)}eval $A`],
    ["nested substitutions", long('"$(')],
    ["open brackets", long("[")],
    ["open braces", long("{a,")],
    ["many pipes", long("a|")],
    ["many assignments", Array.from({ length: 6_000 }, (_, i) => `a${i}=1`).join(";")],
    ["many here-documents", long("<<A ")],
    ["many stars", `rm ${"*?".repeat(60)}b`],
    ["many roots of find", `find ${long("a ")} -exec rm ${long("{} ")}`],
    ["many -exec", `find . ${long("-exec rm {} ")}`],
    ["many outputs", `curl ${long("-o x ")}`],
  ])("takes less than two seconds of processor time for %s", (_, script) => {
    const start = process.cpuUsage();
    for (const command of run(script).commands)
      for (const { pattern } of effectsOf(command))
        if (pattern !== null) matchesGlob(pattern, "/work/some/where/with-a-longer-name.sh");
    const { user, system } = process.cpuUsage(start);
    expect((user + system) / 1e6).toBeLessThan(2);
  });
});
