import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pack } from "tar-stream";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import type { Sandbox } from "../../src/index.ts";
import { closeDriver, file, obstacle, sandbox, suite } from "../support.ts";
import { asRoot, type Canaries, healthy, plantCanaries } from "./attack.ts";

/** Attempts to make the host read or write where it should not, through every way of reaching files from outside. */
describe.skipIf(obstacle)(suite("files as a way out"), () => {
  let box: Sandbox;
  let canaries: Canaries;

  beforeAll(async () => {
    canaries = plantCanaries();
    box = await sandbox();
  });
  afterEach(async () => {
    canaries.check();
    expect(readdirSync(canaries.directory)).toEqual(["secret"]);
    await healthy(box);
    await asRoot(box, "rm -rf /work/* /tmp/*; mkdir -p /work");
  });
  afterAll(async () => {
    canaries[Symbol.dispose]();
    await closeDriver();
  });

  /** Links that lead to the host's directory if anybody follows them outside. */
  const plantLinks = async (): Promise<void> => {
    const { directory } = canaries;
    const up = "../".repeat(20);
    await asRoot(
      box,
      `cd /work; ln -s ${directory} absolute; ln -s ${up}${directory.slice(1)} climbing; ln -s /proc/1/root/${directory} magic; ln -s ${directory}/secret file; ln -s /proc/self/root root; ln -s loop loop; mkdir real; ln -s ../absolute real/nested`,
    );
  };
  const links = ["absolute", "climbing", "magic", "root/tmp", "real/nested", "loop"];

  const text = (value: Uint8Array): string => Buffer.from(value).toString();

  test("reading through a link shows the sandbox's own file or none", async () => {
    await plantLinks();
    for (const link of links) {
      for (const path of [`/work/${link}/secret`, `/work/${link}/../secret`]) {
        const read = await box.files.read(path);
        expect(read.ok ? text(read.value) : "refused").not.toContain(canaries.secret);
        expect((await box.readFile(path)).ok).toBe(false);
        expect((await box.fingerprint([path]))[0]?.sha256).toBeNull();
      }
    }
    expect((await box.files.read("/work/file")).ok).toBe(false);
    const streamed = await box.files.readStream("/work/file");
    expect(streamed.ok).toBe(false);
  });

  test("listing and stat through a link show nothing of the host", async () => {
    await plantLinks();
    for (const link of links) {
      const listed = await box.files.list(`/work/${link}`, { recursive: true });
      const names = listed.ok ? listed.value.entries.map((entry) => entry.path).join() : "";
      expect(names).not.toContain(`${link}/secret`);
      const stat = await box.files.stat(`/work/${link}/secret`, { followLinks: true });
      expect(stat.ok).toBe(false);
    }
  });

  test("writing through a link stays inside", async () => {
    await plantLinks();
    for (const link of links) {
      await box.files.write(`/work/${link}/planted`, "x");
      await box.files.makeDirectory(`/work/${link}/made`);
      const written = await box.writeFiles([file(`/work/${link}/planted`, "x")]);
      expect(written.ok).toBe(false);
    }
    await box.files.write("/work/file", "overwritten");
    expect(readFileSync(join(canaries.directory, "secret"), "utf8")).toBe(canaries.secret);
  });

  test("removing, moving, and changing what a link names do not touch the host", async () => {
    await plantLinks();
    for (const link of links) {
      await box.files.remove(`/work/${link}/secret`);
      await box.files.remove(`/work/${link}/`, { recursive: true });
      await box.files.move(`/work/${link}/secret`, "/work/stolen");
      await box.files.move("/work/real", `/work/${link}/moved`, { overwrite: true });
      await box.files.changeMode(`/work/${link}/secret`, 0o777, { recursive: true });
      await box.files.changeOwner(`/work/${link}/secret`, "agent", { recursive: true });
    }
    expect((await box.files.stat("/work/stolen")).ok).toBe(false);
  });

  test("downloading takes links as links", async () => {
    await plantLinks();
    const tar = await box.files.download("/work");
    expect(tar.ok).toBe(true);
    const chunks: Uint8Array[] = [];
    if (tar.ok) for await (const chunk of tar.value) chunks.push(chunk);
    expect(Buffer.concat(chunks).includes(canaries.secret)).toBe(false);
  });

  test("a second name of a file is not written through", async () => {
    await asRoot(box, "echo original > /etc/victim; ln /etc/victim /work/innocent");
    expect((await box.writeFiles([file("/work/innocent", "x")])).ok).toBe(false);
    expect((await asRoot(box, "cat /etc/victim")).stdout).toBe("original\n");
  });

  test("a pipe, a socket or a device in a file's place blocks nobody", async () => {
    await asRoot(
      box,
      `cd /work; mkfifo pipe; perl -e 'use Socket; socket S, AF_UNIX, SOCK_STREAM, 0; bind S, pack(q(S a*), 1, q(/work/socket))'`,
    );
    for (const name of ["pipe", "socket"]) {
      expect((await box.files.read(`/work/${name}`)).ok).toBe(false);
      expect((await box.readFile(`/work/${name}`)).ok).toBe(false);
      expect((await box.writeFiles([file(`/work/${name}`, "x")])).ok).toBe(false);
      expect((await box.fingerprint([`/work/${name}`]))[0]?.sha256).toBeNull();
    }
  });

  test("swapping a directory for a link in the middle wins nothing", async () => {
    const { directory } = canaries;
    const swap = `my $end = time + 4; while (time < $end) { rename q(/work/race), q(/work/kept); symlink q(${directory}), q(/work/race); select undef, undef, undef, 0.0002; unlink q(/work/race); rename q(/work/kept), q(/work/race) }`;
    await asRoot(box, "mkdir /work/race; echo inside > /work/race/secret");
    const swapper = await box.start({ argv: ["perl", "-e", swap], user: "root", timeoutMs: 10_000 });
    const until = Date.now() + 2_500;
    let rounds = 0;
    while (Date.now() < until) {
      await box.writeFiles([file("/work/race/planted", "x")]);
      await box.files.write("/work/race/planted", "x");
      await box.files.makeDirectory("/work/race/made");
      await box.files.remove("/work/race/secret2");
      const [plain, following] = [
        await box.readFile("/work/race/secret"),
        await box.files.read("/work/race/secret"),
      ];
      for (const read of [plain, following])
        if (read.ok) expect(text(read.value)).not.toContain(canaries.secret);
      rounds++;
    }
    await swapper.signal("SIGKILL");
    expect(rounds).toBeGreaterThan(20);
  });

  interface Entry {
    readonly name: string;
    readonly type?: "symlink" | "link" | "character-device";
    readonly linkname?: string;
  }

  async function* tarOf(entries: readonly Entry[]): AsyncIterable<Uint8Array> {
    const archive = pack();
    for (const entry of entries) {
      const header = { mode: 0o6755, devmajor: 1, devminor: 1, ...entry };
      if (entry.type === undefined) archive.entry(header, "planted");
      else archive.entry(header);
    }
    archive.finalize();
    for await (const chunk of archive) yield chunk as Uint8Array;
  }

  test.each<[string, (host: string) => Entry[]]>([
    ["a name that climbs", (host) => [{ name: `${"../".repeat(20)}${host.slice(1)}/planted` }]],
    ["an absolute name", (host) => [{ name: `${host}/planted` }]],
    [
      "a link, and a file behind it",
      (host) => [{ name: "out", type: "symlink", linkname: host }, { name: "out/planted" }],
    ],
    [
      "a hard link to a file outside, and a file over it",
      (host) => [{ name: "hard", type: "link", linkname: `${host}/secret` }, { name: "hard" }],
    ],
    ["a device", () => [{ name: "mem", type: "character-device" }]],
  ])("unpacking %s leaves the host and the way to it alone", async (_, entriesOf) => {
    const result = await box.files.upload("/work/unpacked", tarOf(entriesOf(canaries.directory)));
    if (result.ok)
      expect(
        (
          await asRoot(
            box,
            `cat ${canaries.directory}/secret /work/unpacked/hard 2>/dev/null | grep -c ${canaries.secret}; find / -xdev -type c -newer /etc/hosts 2>/dev/null | grep -v ^/dev`,
          )
        ).stdout,
      ).toBe("0\n");
    expect(existsSync(join(canaries.directory, "planted"))).toBe(false);
  });

  test("names that are no names", async () => {
    for (const path of [
      "",
      "relative",
      "/work/../../etc/passwd",
      "/work/\0x",
      "/".repeat(5_000),
      `/${"x".repeat(5_000)}`,
      "/proc/1/environ",
      "/proc/self/environ",
    ]) {
      const read = await box.files.read(path).catch((error: unknown) => ({ ok: false, error }) as const);
      if (read.ok) expect(text(read.value as Uint8Array)).not.toContain("PATH=");
      expect((await box.readFile(path).catch(() => ({ ok: false }))).ok).toBe(false);
    }
  });
});
