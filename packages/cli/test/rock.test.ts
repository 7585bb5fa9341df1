import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { baseImage, openOciDriver } from "@ale/rock";
import type { SandboxView } from "@ale/rock/client";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { findTool } from "../../rock/src/host/tools.ts";
import { ale, removeHome, temporaryHome, whyNoSandbox, workingHome } from "./support.ts";

const obstacle = whyNoSandbox();
const traced = obstacle === null && (await tracedHere());
const MAIN = join(import.meta.dirname, "../src/main.ts");

async function tracedHere(): Promise<boolean> {
  await using driver = openOciDriver();
  return (await driver.capabilities()).telemetry.includes("tracefs");
}

interface Ended {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The real command in a process of its own, as a shell would start it. */
function start(home: string, argv: readonly string[]) {
  const env = { ...process.env, ALE_HOME: home, NO_COLOR: "1" };
  return spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN, ...argv], { env });
}

const command = (home: string, argv: readonly string[], input: string | Buffer = ""): Promise<Ended> =>
  ended(start(home, argv), input);

/** The same in a terminal of its own. `typed` goes in as soon as `ready` is on the screen. */
function inTerminal(home: string, line: string, typed: readonly (readonly [ready: string, keys: string])[]) {
  const env = { ...process.env, ALE_HOME: home, NO_COLOR: "1", TERM: "xterm" };
  const ale = `${process.execPath} --disable-warning=ExperimentalWarning ${MAIN}`;
  const child = spawn("script", ["-qec", `bash --norc -c '${line.replaceAll("ALE", ale)}'`, "/dev/null"], {
    env,
  });
  const waiting = [...typed];
  let seen = "";
  child.stdout.on("data", (chunk: Buffer) => {
    seen += chunk.toString();
    const [ready, keys] = waiting[0] ?? [];
    if (ready === undefined || !seen.includes(ready)) return;
    waiting.shift();
    seen = "";
    child.stdin.write(keys!);
  });
  return ended(child);
}

function ended(child: ReturnType<typeof spawn>, input?: string | Buffer): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  child.stdout!.on("data", (chunk: Buffer) => {
    stdout += chunk.toString("latin1");
  });
  child.stderr!.on("data", (chunk: Buffer) => {
    stderr += chunk.toString();
  });
  child.stdin!.on("error", () => {});
  if (input !== undefined) child.stdin!.end(input);
  return new Promise((resolve) => child.on("close", (exitCode) => resolve({ exitCode, stdout, stderr })));
}

describe("ale rock without a server", () => {
  test("says which command starts one", async () => {
    const outcome = await ale(await temporaryHome(), "rock", "ls");
    expect(outcome.exitCode).toBe(3);
    expect(outcome.stderr).toContain("next:  start one: ale rock serve --detach");
  });

  test("lists its commands, and those of its groups", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "rock", "--help")).stdout).toContain("rock snapshot rm");
    const images = (await ale(home, "rock", "image", "--help")).stdout;
    expect(images).toContain("rock image pull");
    expect(images).not.toContain("rock exec");
    expect((await ale(home, "rock", "image", "pul")).stderr).toContain("did you mean: ale rock image pull?");
    expect((await ale(home, "--help")).stdout).not.toContain("rock exec");
  });

  test.each([
    [["create"], "IMAGE is missing"],
    [["create", "ale/base", "--lifetime", "soon"], "write it as 500ms"],
    [["create", "ale/base", "--env", "=x"], "is not NAME=VALUE"],
    [["create", "ale/base", "--cpus", "0"], "not a number above 0 and up to 256"],
    [["create", "ale/base", "--cpus", "-1"], '--cpus: "-1" is not a number above 0'],
    [["create", "ale/base", "--cpus", "500"], "up to 256"],
    [["create", "ale/base", "--pids", "40000"], "from 1 to 32768"],
    [["create", "ale/base", "--memory", "1k"], "at least 4.0M"],
    [["create", "ale/base", "--id", "A_B"], "cannot be a sandbox's id"],
    [["create", "ale/base", "--workdir", "work"], "such as /work"],
    [["fork", "snap", "--memory", "much"], "--memory: "],
    [["image", "rm", "nosuch"], "ale rock image ls shows them all"],
    [["image", "build", "-t", "x", "--without-limit", "disk"], "memory, cpu, or both"],
    [["exec", "box"], "COMMAND is missing"],
    [["cp", "a", "b"], "one of FROM and TO must be in a sandbox"],
    [["cp", "box:a", "b"], "a path in a sandbox begins with /"],
    [["rm"], "name sandboxes, or say --all"],
    [["rm", "--all"], "ale rock rm --all --yes"],
    [["top", "--sort", "memry"], "did you mean memory?"],
    [["serve", "--tls-key", "x"], "belong together"],
    [["serve", "--model-gateway", "8100"], "127.0.0.1:8100"],
    [["create", "ale/base", "--network", "opne"], "is not known"],
    [["create", "ale/base", "--network", "none", "--allow", "pypi.org"], "--allow pypi.org goes with"],
    [["fork", "snap", "--allow", "https://pypi.org"], "is no host but"],
    [["network", "box", "--end-open"], "goes with a change"],
    [["network", "box", "--budget", "bytes-up=much"], '--budget: "bytes-up=much" needs a size above 0'],
    [
      ["network", "box", "--host-budget", "requests=1.5"],
      '--host-budget: "requests=1.5" needs a whole number',
    ],
    [["create", "ale/base", "--allow", "a.org", "--budget", "up=1"], '--budget: "up=1" names no budget'],
    [["create", "ale/base", "--budget", "requests=1"], "--budget goes with a network"],
    [["image", "import", "/nowhere.tar", "x"], "there is no /nowhere.tar"],
    [["image", "export", "ale/base", "x", "--format", "zip"], "is not known"],
    [["image", "export", "ale/base", "/nowhere/x.tar"], "there is no directory /nowhere"],
    [["token", "create", "--scope", "exce"], "did you mean exec?"],
  ])("refuses %j", async (argv, message) => {
    const outcome = await ale(await temporaryHome(), "rock", ...argv);
    expect(outcome.exitCode).toBe(2);
    expect(outcome.stderr).toContain(message);
  });

  test("does not ask again for a base image that is there", async () => {
    const home = await temporaryHome();
    expect((await ale(home, "rock", "image", "ls")).stdout).toContain("ale setup image");
    mkdirSync(baseImage(home).rootfs, { recursive: true });
    expect((await ale(home, "rock", "image", "ls")).stdout).toContain("no images but ale/base");
  });

  test("makes, lists and revokes tokens before the first start", async () => {
    const home = await temporaryHome();
    const made = (
      await ale(home, "rock", "token", "create", "--tenant", "ann", "--scope", "exec", "--json")
    ).json();
    expect(made).toMatchObject({ token: expect.stringMatching(/^ale_/) });
    const listed = await ale(home, "rock", "token", "ls");
    expect(listed.stdout).toContain("ann");
    expect(listed.stdout).not.toContain(made.token);
    expect((await ale(home, "rock", "token", "rm", String(made.id))).exitCode).toBe(0);
    expect((await ale(home, "rock", "token", "ls")).stdout).toBe("no tokens\n");
    expect((await ale(home, "rock", "token", "rm", "nope")).exitCode).toBe(2);
  });
});

describe.skipIf(obstacle)(`ale rock${obstacle ? ` (skipped: ${obstacle})` : ""}`, () => {
  const home = obstacle ? "" : workingHome();
  const work = mkdtempSync(join(tmpdir(), "ale-rock-cli-"));
  let server = 0;
  let firstToken = "";
  let box = "";

  beforeAll(async () => {
    const started = await command(home, ["rock", "serve", "--detach", "--port", "0", "--json"]);
    expect(started.exitCode, started.stderr).toBe(0);
    server = JSON.parse(started.stdout).pid;
    firstToken = JSON.parse(started.stdout).token;
    const made = await ale(
      home,
      "rock",
      "create",
      "ale/base",
      "-l",
      "suite=cli",
      "-w",
      "/work",
      "-e",
      "COLOUR=blue",
    );
    box = made.stdout.trim();
  }, 60_000);

  afterAll(async () => {
    await ale(home, "rock", "rm", "--all", "--yes");
    const stopped = await ale(home, "rock", "serve", "--stop", "--json");
    expect(stopped.json()).toMatchObject({ stopped: { pid: server } });
    // It is over; who inherited it may have its exit status to fetch yet.
    await vi.waitFor(() => expect(existsSync(`/proc/${server}`)).toBe(false), { timeout: 30_000 });
    expect((await ale(home, "rock", "serve", "--stop", "--json")).json()).toMatchObject({ stopped: null });
    expect((await ale(home, "rock", "serve", "--stop", "--port", "1")).exitCode).toBe(2);
    rmSync(work, { recursive: true });
    removeHome(home);
  }, 60_000);

  const exec = (argv: readonly string[], input?: string | Buffer) =>
    command(home, ["rock", "exec", ...argv], input);

  test("serves one server a home, whose file nobody else can read", async () => {
    expect(statSync(join(home, "rock/serve.json")).mode & 0o777).toBe(0o600);
    const again = await ale(home, "rock", "serve", "--detach");
    expect(again.exitCode).toBe(2);
    expect(again.stderr).toContain("ale rock serve --stop");
  });

  test("shows the first token once, where it was started, and keeps it out of its log", async () => {
    expect(firstToken).toMatch(/^ale_/);
    expect(readFileSync(join(home, "logs/rock-serve.log"), "utf8")).not.toContain(firstToken);
    const listed = (await ale(home, "rock", "token", "ls", "--json")).json();
    expect(listed.tokens).toMatchObject([{ scopes: ["admin"] }]);
  });

  test("says in its own words why a server does not start", async () => {
    const other = await temporaryHome();
    const refused = await ale(other, "rock", "serve", "--detach", "--host", "0.0.0.0", "--port", "0");
    expect(refused.exitCode).toBe(4);
    expect(refused.stderr).toContain("there is no token yet");
    expect(refused.stderr).toContain("ale rock token create");
  });

  test.skipIf(findTool("nft") === undefined)(
    "gives a sandbox a network, shows it and changes it",
    async () => {
      const made = await ale(
        home,
        "rock",
        "create",
        "ale/base",
        "--allow",
        "pypi.org",
        "--allow",
        "192.0.2.7:5432",
        "--budget",
        "bytes-up=10m,connections=7",
        "--host-budget",
        "requests=5",
      );
      const id = made.stdout.trim();
      const network = async (...argv: string[]) => (await ale(home, "rock", "network", id, ...argv)).stdout;
      const budgets = "budget bytes-up=10485760 connections=7 host-budget requests=5";
      const shown = await network();
      expect(shown).toContain(`allowlist pypi.org:80,443 192.0.2.7:5432 ${budgets}\n`);
      expect(shown).toMatch(/^the sandbox +0B of 10M, 10M left +.* 0 of 7, 7 left +0 of 100000/m);
      expect(await network("--allow", "other.org")).toContain(`allowlist other.org:80,443 ${budgets}\n`);
      await exec([id, "bash", "-c", "echo x > /dev/tcp/other.org/443"]);
      expect(await network("--budget", "connections=9")).toContain("1 of 9, 8 left");
      expect(await network("--reset-budgets")).toContain("0 of 9, 9 left");
      expect((await exec([id, "cat", "/proc/net/dev"])).stdout).toContain("eth0");
      expect(await network("none")).toBe("none\n");
      expect((await exec([id, "cat", "/proc/net/dev"])).stdout).not.toContain("eth0");
      expect((await ale(home, "rock", "network", id, "--json")).json()).toMatchObject({
        network: { mode: "none" },
        budgets: null,
      });
      expect(await network("--allow", "other.org")).toContain("bytes-up=10485760 connections=9");
      await ale(home, "rock", "rm", id);
    },
  );

  test("refuses the open network unless the server was started with it, and warns of it", async () => {
    const refused = await ale(home, "rock", "create", "ale/base", "--network", "open");
    expect(refused.exitCode).not.toBe(0);
    expect(refused.stderr).toContain("reaches the whole internet");
    expect(refused.stderr).toContain("--allow-open-network");
    const gateway = await ale(home, "rock", "create", "ale/base", "--network", "gateway-only");
    expect(gateway.stderr).toContain("--model-gateway HOST:PORT");
    const wide = await ale(home, "rock", "create", "ale/base", "--allow", "*.com");
    expect(wide.exitCode).toBe(2);
    expect(wide.stderr).toContain("anybody can have a name below com");
    expect((await ale(home, "rock", "ls", "--json")).json()).toMatchObject({ sandboxes: [{ id: box }] });
  });

  test("starts what runs already, and says so", async () => {
    const again = await ale(home, "rock", "start", box);
    expect(again).toMatchObject({ exitCode: 0, stdout: `${box}\n` });
    expect(again.stderr).toContain(`${box} runs already`);
  });

  test("lists sandboxes with labels", async () => {
    expect((await ale(home, "rock", "ls")).stdout).toMatch(
      new RegExp(`^${box} +running +ale/base .* suite=cli$`, "m"),
    );
    expect((await ale(home, "rock", "ls", "-q", "-l", "suite=cli")).stdout).toBe(`${box}\n`);
    expect((await ale(home, "rock", "ls", "-l", "suite=other")).stdout).toContain("no sandboxes");
    expect((await ale(home, "rock", "ls", "--json")).json()).toMatchObject({ sandboxes: [{ id: box }] });
  });

  test("runs a program: streams apart, stdin, environment, exit code", async () => {
    const program = 'cat; echo "$COLOUR $SIZE" >&2; pwd; exit 7';
    const done = await exec(["-e", "SIZE=4", box, "--", "sh", "-c", program], "typed\n");
    expect(done).toEqual({ exitCode: 7, stdout: "typed\n/work\n", stderr: "blue 4\n" });
  });

  test("passes bytes and the program's own options as they are", async () => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));
    const through = await exec([box, "cat", "-u"], bytes);
    const back = Buffer.from(through.stdout, "latin1");
    const { exitCode, stderr } = through;
    expect({ exitCode, stderr, length: back.length }).toEqual({
      exitCode: 0,
      stderr: "",
      length: bytes.length,
    });
    expect(back.equals(bytes)).toBe(true);
  });

  test("a reader that takes its time has the output to its last byte", async () => {
    // More than a socket holds, and then less than the stream before it.
    for (const size of [230_000, 260_000, 300_000]) {
      const child = start(home, ["rock", "exec", box, "head", "-c", String(size), "/dev/zero"]);
      child.stdin.end();
      child.stdout.pause();
      setTimeout(() => child.stdout.resume(), 1_500);
      const { exitCode, stdout } = await ended(child);
      expect({ exitCode, length: stdout.length }).toEqual({ exitCode: 0, length: size });
    }
  });

  test("collects a program's output under --json", async () => {
    const done = await ale(
      home,
      "rock",
      "exec",
      box,
      "--json",
      "--",
      "sh",
      "-c",
      "echo out; echo err >&2; exit 3",
    );
    expect(done.exitCode).toBe(3);
    expect(done.json()).toMatchObject({ exitCode: 3, stdout: "out\n", stderr: "err\n" });
  });

  test("tells a program that cannot be started, a time that is up and a sandbox that is not there", async () => {
    expect((await exec([box, "no-such-program"])).exitCode).not.toBe(0);
    const late = await exec(["--timeout", "300ms", box, "--", "sleep", "100"]);
    expect([late.exitCode, late.stderr]).toEqual([124, "the time was up\n"]);
    const nobody = await exec(["nope", "true"]);
    expect([nobody.exitCode, nobody.stderr]).toEqual([
      2,
      "error: there is no sandbox nope\nnext:  ale rock ls --all shows them\n",
    ]);
  });

  test("refuses options of ale where the program is expected", async () => {
    const misplaced = await exec([box, "-u", "root", "--", "id"]);
    expect(misplaced.exitCode).toBe(2);
    expect(misplaced.stderr).toContain(`options of ale come before ${box}`);
    expect((await ale(home, "rock", "exec", "--help")).stdout).toContain(
      "ale rock exec [options] ID COMMAND",
    );
  });

  test("refuses sizes by the name of their option, and limits above the host in figures for people", async () => {
    const create = (...argv: string[]) => ale(home, "rock", "create", "ale/base", ...argv);
    const odd = await create("--memory", "8q");
    expect([odd.exitCode, odd.stderr]).toEqual([
      2,
      'error: --memory: "8q" is no size\nnext:  write it as 512m, 8g or 64KiB\n',
    ]);
    const large = await create("--memory", "100t");
    expect(large.stderr).toMatch(/memory of 104857600 MiB asked for, this host has \d+ MiB/);
  });

  test("Ctrl-C interrupts the program, whose exit code is then ours", async () => {
    const line = `ALE rock exec ${box} -- sh -c "trap \\"echo caught; exit 9\\" INT; echo up; sleep 60 & wait"; echo code=$?`;
    const done = await inTerminal(home, line, [["up", "\u0003"]]);
    expect(done.stdout).toContain("caught");
    expect(done.stdout).toContain("code=9");
  });

  test("a shell in a terminal knows its size, and leaves the terminal as it was", async () => {
    const line = `stty rows 31 cols 77; ALE rock shell ${box}; echo code=$?; stty -a`;
    const done = await inTerminal(home, line, [["$ ", "stty size; exit 3\r"]]);
    expect(done.stdout).toContain("31 77");
    expect(done.stdout).toContain("code=3");
    expect(done.stdout).toMatch(/[^-]icanon/);
    const left = await inTerminal(home, line, [["$ ", "\u001d"]]);
    expect(left.stdout).toContain("left; the sandbox goes on");
    expect(left.stdout).toMatch(/code=0.*[^-]icanon/s);
    expect((await ale(home, "rock", "shell", box)).stderr).toContain("this is no terminal");
  });

  test("a terminal says why its program ended where that was not its own doing", async () => {
    const late = await inTerminal(
      home,
      `ALE rock exec -t --timeout 300ms ${box} -- sleep 60; echo code=$?`,
      [],
    );
    expect(late.stdout).toMatch(/the time was up\r\ncode=124/);
    const other = (await ale(home, "rock", "create", "ale/base")).stdout.trim();
    const shell = inTerminal(home, `ALE rock shell ${other}; echo code=$?`, []);
    const programs = () => ale(home, "rock", "exec", "--json", other, "--", "ps", "-eo", "args");
    while (!(await programs()).stdout.includes("bash -l"));
    await ale(home, "rock", "stop", other);
    expect((await shell).stdout).toMatch(/\r\nthe sandbox ended\r\ncode=137/);
  });

  test("a program in a terminal of its own", async () => {
    const done = await inTerminal(home, `ALE rock exec -t ${box} -- sh -c "tty; exit 5"; echo code=$?`, []);
    expect(done.stdout).toContain("/dev/pts/");
    expect(done.stdout).toContain("code=5");
  });

  test("copies files and directories in and out, under their own names or new ones", async () => {
    mkdirSync(join(work, "src/sub"), { recursive: true });
    writeFileSync(join(work, "src/a"), "a\n", { mode: 0o750 });
    writeFileSync(join(work, "src/sub/b"), "b\n");
    symlinkSync("a", join(work, "src/l"));
    const cp = (...argv: string[]) => ale(home, "rock", "cp", ...argv);
    expect((await cp(join(work, "src"), `${box}:/work/new`)).exitCode).toBe(0);
    expect((await cp(join(work, "src"), `${box}:/work`)).exitCode).toBe(0);
    expect((await cp(join(work, "src/a"), `${box}:/work/`)).exitCode).toBe(0);
    const found = await exec([box, "sh", "-c", "find . | sort; stat -c '%a %U' new/a; readlink new/l"]);
    expect(found.stdout).toBe(
      "./a new new/a new/l new/sub new/sub/b src src/a src/l src/sub src/sub/b"
        .split(" ")
        .map((name) => (name.startsWith("./") ? name : `./${name}`))
        .reduce((text, name) => `${text}${name}\n`, ".\n")
        .concat("750 agent\na\n"),
    );
    await cp(`${box}:/work/src`, join(work, "out"));
    await cp(`${box}:/work/src`, work);
    await cp(`${box}:/work/a`, join(work, "renamed"));
    expect(readFileSync(join(work, "out/l"), "utf8")).toBe("a\n");
    expect(readFileSync(join(work, "src/sub/b"), "utf8")).toBe("b\n");
    expect(statSync(join(work, "renamed")).mode & 0o777).toBe(0o750);
    const missing = await cp(`${box}:/nope`, work);
    expect([missing.exitCode, missing.stderr]).toEqual([2, "error: in the sandbox: /nope: not found\n"]);
    const onto = await cp(`${box}:/work/src`, join(work, "renamed"));
    expect([onto.exitCode, onto.stderr]).toEqual([2, expect.stringContaining("is a file here")]);
    for (const path of ["/work/src", "/work/a"]) {
      const nowhere = await cp(`${box}:${path}`, join(work, "no/where"));
      expect([nowhere.exitCode, nowhere.stderr]).toEqual([
        2,
        expect.stringContaining("there is no directory"),
      ]);
    }
  });

  test("a copy for which there is no room says so under the name that was asked for, and leaves no part of it", async () => {
    const id = (await ale(home, "rock", "create", "ale/base", "--disk", "4m", "-w", "/work")).stdout.trim();
    const large = join(work, "large");
    writeFileSync(large, Buffer.alloc(6 * 2 ** 20, 1));
    const up = await ale(home, "rock", "cp", large, `${id}:/work/big`);
    expect(up.stderr).toMatch(/\/work\/big.*no space.*--disk/);
    expect(up.stderr).not.toContain("ale-upload");
    await ale(
      home,
      "rock",
      "exec",
      id,
      "--json",
      "--",
      "sh",
      "-c",
      "head -c 3000000 /dev/zero > /work/three",
    );
    const little = mkdtempSync(join(tmpdir(), "ale-little-"));
    spawnSync("mount", ["-t", "tmpfs", "-o", "size=1m", "none", little]);
    try {
      const down = await ale(home, "rock", "cp", `${id}:/work/three`, join(little, "three"));
      expect([down.exitCode, down.stderr]).toEqual([4, expect.stringContaining("free some space")]);
      expect(readdirSync(little)).toEqual([]);
      const tree = await ale(home, "rock", "cp", `${id}:/work`, join(little, "tree"));
      expect(tree.stderr).toContain(`${little}/tree`);
      expect(tree.stderr).toContain("on this machine");
    } finally {
      spawnSync("umount", [little]);
      rmSync(little, { recursive: true });
    }
    await ale(home, "rock", "rm", id);
  });

  test("says of a home on a read-only disk that it is one", async () => {
    const disk = mkdtempSync(join(tmpdir(), "ale-read-only-"));
    spawnSync("mount", ["-t", "tmpfs", "-o", "ro", "none", disk]);
    try {
      for (const argv of [["serve"], ["serve", "-d"], ["token", "create"], ["image", "pull", "x"]]) {
        const outcome = await ale(disk, "rock", ...argv);
        expect([outcome.exitCode, outcome.stderr]).toEqual([4, expect.stringContaining("read-only")]);
      }
    } finally {
      spawnSync("umount", [disk]);
      rmSync(disk, { recursive: true });
    }
  });

  test("copies archives through pipes", async () => {
    await ale(home, "rock", "exec", box, "--json", "--", "sh", "-c", "mkdir -p p; echo deep > p/f");
    const archive = await command(home, ["rock", "cp", `${box}:/work/p`, "-"]);
    expect(archive.stdout).toContain("deep\n");
    const bytes = Buffer.from(archive.stdout, "latin1");
    expect((await command(home, ["rock", "cp", "-", `${box}:/work/q`], bytes)).exitCode).toBe(0);
    expect((await exec([box, "cat", "/work/q/p/f"])).stdout).toBe("deep\n");
    const cut = await command(home, ["rock", "cp", "-", `${box}:/work/r`], bytes.subarray(0, 1_100));
    expect(cut.exitCode).toBe(4);
    expect(cut.stderr).toMatch(/entr(y is|ies are) in place/);
  });

  test("an archive on stdout is nothing but the archive", async () => {
    const both = await ale(home, "rock", "cp", `${box}:/work`, "-", "--json");
    expect([both.exitCode, both.json()]).toMatchObject([2, { error: { code: "usage" } }]);
  });

  test("a copy that comes out of a hostile sandbox stays in its directory", async () => {
    const program = `mkdir -p evil; ln -sfn ${work} evil/out; ln -sf ${work}/victim evil/f`;
    await ale(home, "rock", "exec", box, "--json", "--", "sh", "-c", program);
    writeFileSync(join(work, "victim"), "untouched");
    mkdirSync(join(work, "here"));
    await ale(home, "rock", "cp", `${box}:/work/evil`, join(work, "here"));
    await ale(
      home,
      "rock",
      "exec",
      box,
      "--json",
      "--",
      "sh",
      "-c",
      "rm -r evil; mkdir -p evil/out; echo x > evil/out/victim; echo x > evil/f",
    );
    const second = await ale(home, "rock", "cp", `${box}:/work/evil`, join(work, "here"));
    expect(second.exitCode).not.toBe(0);
    expect(readFileSync(join(work, "victim"), "utf8")).toBe("untouched");
  });

  test("snapshots, compares, forks and goes back", async () => {
    const id = (await ale(home, "rock", "create", "ale/base", "-w", "/work")).stdout.trim();
    const run = (where: string, program: string) =>
      ale(home, "rock", "exec", where, "--json", "--", "sh", "-c", program).then(
        (done) => done.json().stdout,
      );
    await run(id, "echo 1 > a; echo gone > b");
    const first = (await ale(home, "rock", "snapshot", id)).stdout.trim();
    await run(id, "echo 2 > a; rm b; echo new > c");
    const second = (await ale(home, "rock", "snapshot", id, "-l", "k=v")).stdout.trim();
    expect((await ale(home, "rock", "diff", first, second)).stdout).toBe("C /work/a\nD /work/b\nA /work/c\n");
    expect((await ale(home, "rock", "snapshot", "ls")).stdout).toContain(second);
    const forks = (await ale(home, "rock", "fork", first, "-n", "2")).stdout.trim().split("\n");
    expect(forks).toHaveLength(2);
    for (const one of forks) expect(await run(one, "cat a b")).toBe("1\ngone\n");
    const [small = ""] = (await ale(home, "rock", "fork", first, "--memory", "64m", "-e", "FORK=yes")).stdout
      .trim()
      .split("\n");
    expect(await run(small, "echo $FORK")).toBe("yes\n");
    const views = (await ale(home, "rock", "ls", "--json")).json().sandboxes as SandboxView[];
    const limits = new Map(views.map((view) => [view.id, view.limits]));
    expect(limits.get(small)).toEqual({ ...limits.get(forks[0]!), memoryBytes: 64 * 2 ** 20 });
    expect((await ale(home, "rock", "revert", id, first)).exitCode).toBe(0);
    expect(await run(id, "cat a b; ls")).toBe("1\ngone\na\nb\n");
    expect((await ale(home, "rock", "snapshot", "rm", second)).exitCode).toBe(0);
    expect((await ale(home, "rock", "fork", second)).exitCode).toBe(2);
    await ale(home, "rock", "rm", id, small, ...forks);
  });

  test("stops a sandbox, starts it again with its files, and removes it", async () => {
    const id = (
      await ale(home, "rock", "create", "ale/base", "--id", "phoenix", "-w", "/work")
    ).stdout.trim();
    expect(id).toBe("phoenix");
    await ale(home, "rock", "exec", id, "--json", "--", "sh", "-c", "echo kept > f");
    expect((await ale(home, "rock", "stop", id)).stdout).toBe("phoenix\n");
    expect((await ale(home, "rock", "ls")).stdout).not.toContain("phoenix");
    expect((await ale(home, "rock", "ls", "--all")).stdout).toMatch(/phoenix +stopped/);
    expect((await ale(home, "rock", "cp", `${id}:/work/f`, work)).stderr).toContain("next:  ale rock start");
    expect((await ale(home, "rock", "start", id)).exitCode).toBe(0);
    expect((await ale(home, "rock", "exec", id, "--json", "--", "cat", "f")).json()).toMatchObject({
      stdout: "kept\n",
    });
    const removed = await ale(home, "rock", "rm", "nope", id);
    expect([removed.exitCode, removed.stdout]).toEqual([2, "phoenix\n"]);
    expect(removed.stderr).toContain("there is no sandbox nope");
  });

  test("shows what happens in a sandbox while it is watched", async () => {
    // A process of its own, which must not end while it watches.
    const watching = command(home, ["rock", "events", box, "--seconds", "4", "--json"]);
    const made = command(home, [
      "rock",
      "exec",
      box,
      "--",
      "sh",
      "-c",
      "for i in 1 2 3 4 5 6; do sleep 0.5; done",
    ]);
    const { stdout, exitCode } = await watching;
    expect((await made).exitCode).toBe(0);
    expect(exitCode).toBe(0);
    const lines = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    const last = lines.pop()!;
    expect(last).toMatchObject({ ok: true, records: lines.length });
    expect(lines.every(({ sandbox }) => sandbox === box)).toBe(true);
    if (traced) expect(lines.map(({ kind }) => kind)).toContain("process.exec");
    expect((await ale(home, "rock", "events", "nope")).stderr).toContain("there is no sandbox nope");
  }, 60_000);

  test.skipIf(!traced)(
    "names the rules that it sets off, the user's own among them",
    async () => {
      const rules = join(work, "own.yml");
      writeFileSync(
        rules,
        `title: Own\nname: own-true\ntags: [attack.t1059, ale.controllability]\nlevel: low
logsource: { category: process.exec }
detection: { true: { process.exe|endswith: /true }, condition: "true" }\n`,
      );
      const child = start(home, ["rock", "events", box, "--follow", "--rules", rules, "--json"]);
      child.stderr.once("data", () => void exec([box, "--", "/bin/true"]));
      child.stdout.on("data", (chunk: Buffer) => {
        if (chunk.includes("own-true")) child.kill("SIGINT");
      });
      const { exitCode, stdout } = await ended(child, "");
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(/^\{"alert":\{"rule":"own-true",.*"technique":"T1059"/m);
      expect(JSON.parse(stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({ ok: true, alerts: 1 });
    },
    60_000,
  );

  test("is told for as long as somebody watches, and Ctrl-C in the middle is one clean end", async () => {
    const { stdout: made } = await ale(home, "rock", "create", "ale/base");
    const box = made.trim();
    const child = start(home, ["rock", "events", box, "--follow", "--json"]);
    const busy = start(home, ["rock", "exec", box, "--", "sh", "-c", "while :; do /bin/true; done"]);
    const overBusy = ended(busy, "");
    child.stderr.once("data", () => {
      if (!traced) child.kill("SIGINT");
    });
    child.stdout.once("data", () => child.kill("SIGINT"));
    const { exitCode, stdout, stderr } = await ended(child, "");
    expect(exitCode).toBe(0);
    expect(stderr).toBe(`watching ${box}; Ctrl-C ends it\n`);
    const lines = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    expect(lines.pop()).toEqual({ ok: true, records: lines.length, endReason: null });
    await ale(home, "rock", "rm", box);
    await overBusy;
  }, 60_000);

  test("is told for some seconds, also with --follow, and no longer than there is a sandbox", async () => {
    const { stdout: made } = await ale(home, "rock", "create", "ale/base");
    const box = made.trim();
    const short = await command(home, ["rock", "events", box, "--follow", "--seconds", "1", "--json"]);
    expect(short.exitCode).toBe(0);
    expect(short.stderr).toBe(`watching ${box} for 1 s\n`);
    const long = start(home, ["rock", "events", box, "--seconds", "3600", "--json"]);
    long.stderr.once("data", () => void ale(home, "rock", "rm", box));
    const { exitCode, stdout } = await ended(long, "");
    expect(exitCode).toBe(0);
    expect(JSON.parse(stdout.trimEnd().split("\n").at(-1)!)).toMatchObject({ endReason: "destroyed" });
  }, 60_000);

  test("shows what sandboxes use, once or live", async () => {
    const stats = (await ale(home, "rock", "stats", box, "--json")).json() as {
      sandboxes: { memoryBytes: number }[];
    };
    expect(stats.sandboxes[0]!.memoryBytes).toBeGreaterThan(0);
    const once = (await ale(home, "rock", "top", "--once", "--sort", "memory")).stdout;
    expect(once).toContain(box);
    const line = "stty rows 12 cols 60; ALE rock top --interval 1; echo code=$?; stty -a";
    const live = await inTerminal(home, line, [
      [box, "m"],
      [box, "q"],
    ]);
    expect(live.stdout).toMatch(/\[\?1049l.*code=0.*[^-]icanon/s);
  });

  test("tells what was asked of a sandbox, and by whom", async () => {
    const { stdout } = await ale(home, "rock", "logs", box, "--lines", "0");
    expect(stdout).toMatch(/^\S+Z {2}running \(create\)$/m);
    expect(stdout).toMatch(/^\S+Z {2}101 GET +…\/exec\/stream .* by local$/m);
    expect((await ale(home, "rock", "logs", "nope")).exitCode).toBe(2);
  });

  test("answers as JSON what it cannot do", async () => {
    const outcome = await ale(home, "rock", "create", "no/such-image", "--json");
    expect(outcome.json()).toMatchObject({ ok: false, error: { code: expect.stringMatching(/^image-/) } });
  });

  test("images are built, listed, mapped, exported, imported and removed without a server", async () => {
    writeFileSync(
      join(work, "Dockerfile"),
      "FROM ale/base\nARG WHO\nUSER root\nRUN echo hello $WHO > /greeting\n",
    );
    const name = `test/cli-${process.pid}`;
    const built = await ale(home, "rock", "image", "build", work, "-t", name, "--arg", "WHO=you");
    expect(built.stdout, built.stderr).toContain(name);
    expect((await ale(home, "rock", "image", "ls")).stdout).toContain(name);
    expect((await ale(home, "rock", "image", "map", `${name}-too`, name)).exitCode).toBe(0);
    const id = (await ale(home, "rock", "create", `${name}-too`)).stdout.trim();
    const said = (await ale(home, "rock", "exec", id, "--json", "--", "cat", "/greeting")).json();
    expect(said).toMatchObject({ stdout: "hello you\n" });
    const file = join(work, "image.tar");
    expect((await ale(home, "rock", "image", "export", name, file)).exitCode).toBe(0);
    expect((await ale(home, "rock", "image", "import", file, `${name}-again`)).exitCode).toBe(0);
    expect((await ale(home, "rock", "image", "rm", name)).exitCode).not.toBe(0);
    await ale(home, "rock", "rm", id);
    for (const one of [`${name}-too`, `${name}-again`, name])
      expect((await ale(home, "rock", "image", "rm", one)).exitCode, one).toBe(0);
  });

  test.each(["SIGINT", "SIGTERM"] as const)(
    "a server ends on %s, and says what became of its sandboxes",
    async (signal) => {
      const other = workingHome();
      const server = start(other, ["rock", "serve", "--port", "0", "--json"]);
      const over = ended(server, "");
      await once(server.stdout, "data");
      const id = (await ale(other, "rock", "create", "ale/base")).stdout.trim();
      server.kill(signal);
      const { exitCode, stdout, stderr } = await over;
      const [first, last] = stdout
        .trimEnd()
        .split("\n")
        .map((line) => JSON.parse(line));
      expect(first).toMatchObject({
        ok: true,
        url: expect.stringContaining("http://127.0.0.1:"),
        token: expect.any(String),
      });
      expect(last).toMatchObject({ ok: true, url: first.url, stopped: [id], removed: [], unsure: [] });
      expect(stderr).toMatch(/^served for \d+s; 1 sandbox stopped, files kept/m);
      expect(exitCode).toBe(0);
      removeHome(other);
    },
    60_000,
  );

  test("gc clears up after a server that was killed, and keeps its sandboxes' files", async () => {
    const other = workingHome();
    const started = await command(other, ["rock", "serve", "--detach", "--port", "0", "--json"]);
    const { pid } = JSON.parse(started.stdout);
    const id = (await ale(other, "rock", "create", "ale/base")).stdout.trim();
    process.kill(pid, "SIGKILL");
    while (existsSync(`/proc/${pid}`)) await new Promise((resolve) => setTimeout(resolve, 20));
    const collected = await ale(other, "rock", "gc", "--json");
    expect(collected.json()).toMatchObject({ failures: [], orphans: [] });
    expect(readdirSync(join(other, "rock/durable-server"))).toContain(id);
    removeHome(other);
  });

  test("gc removes toolboxes of programs that were upgraded, unless somebody may stand on them", async () => {
    const old = join(home, "inside", "0123456789abcdef");
    mkdirSync(old, { recursive: true });
    await ale(home, "rock", "gc");
    expect(existsSync(old)).toBe(true);
    const other = workingHome();
    mkdirSync(join(other, "inside", "0123456789abcdef"), { recursive: true });
    expect((await ale(other, "rock", "gc")).stdout).toContain("removed inside/0123456789abcdef");
    expect(readdirSync(join(other, "inside")).filter((name) => name.length === 16)).toHaveLength(1);
    removeHome(other);
    rmSync(old, { recursive: true });
  });

  test("reset removes what is kept of a home, so that nothing of it is mounted, and nothing of a living server's", async () => {
    const other = workingHome();
    const started = await command(other, ["rock", "serve", "--detach", "--port", "0", "--json"]);
    const { pid } = JSON.parse(started.stdout);
    const kept = (await ale(other, "rock", "create", "ale/base")).stdout.trim();
    const snapshot = (await ale(other, "rock", "snapshot", kept)).stdout.trim();
    expect((await ale(other, "rock", "reset")).stderr).toContain("ale rock reset --yes");
    expect((await ale(other, "rock", "reset", "--yes")).stderr).toContain(`belong to process ${pid}`);
    expect((await ale(other, "rock", "ls", "--quiet")).stdout).toBe(`${kept}\n`);
    process.kill(pid, "SIGKILL");
    await vi.waitFor(() => expect(existsSync(`/proc/${pid}`)).toBe(false), { timeout: 30_000 });
    expect((await ale(other, "rock", "reset", "--yes", "--json")).json()).toMatchObject({
      ok: true,
      sandboxes: [kept],
      snapshots: [snapshot],
    });
    expect(readFileSync("/proc/self/mountinfo", "utf8")).not.toContain(`${other}/`);
    expect(readdirSync(join(other, "rock"))).toContain("audit");
    rmSync(other, { recursive: true });
  }, 120_000);

  test("logs tell what the runtime said", async () => {
    const space = join(home, "rock/durable-server");
    const { layer } = JSON.parse(readFileSync(join(space, box, "state.json"), "utf8"));
    writeFileSync(join(space, ".layers", layer, "bundle/log"), "init: \u001b[31mred\n");
    expect((await ale(home, "rock", "logs", box)).stdout).toContain("runtime: init: \u241b[31mred");
  });

  test("gc leaves alone what a living server owns", async () => {
    const collected = await ale(home, "rock", "gc", "--json");
    expect(collected.json()).toMatchObject({
      reaped: [],
      alive: expect.arrayContaining([box]),
      failures: [],
    });
    expect((await ale(home, "rock", "exec", box, "--json", "--", "true")).exitCode).toBe(0);
  });
});
