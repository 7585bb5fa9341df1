import { ok } from "@ale/core";
import { describe, expect, test } from "vitest";
import { Tree } from "../src/files/tree.ts";
import { resolveUser } from "../src/files/users.ts";
import { defaultHome, ensureBaseImage } from "../src/index.ts";
import { obstacle, suite } from "./support.ts";

const tree = (files: Readonly<Record<string, string>>) => ({
  read: (path: string) =>
    path in files
      ? ok(new Uint8Array(Buffer.from(files[path]!)))
      : { ok: false as const, error: { type: "not-found" as const, path } },
});

const PASSWD = [
  "root:x:0:0:root:/root:/bin/bash",
  "daemon:x:1:1:daemon:/usr/sbin:/usr/sbin/nologin",
  "ann:x:1500:100:Ann,,,:/home/ann:/bin/zsh",
  "ann:x:0:0:a second entry does not count:/root:/bin/bash",
].join("\n");
const GROUP = [
  "root:x:0:",
  "users:x:100:",
  "audio:x:29:ann,bob",
  "docker:x:998:bob,ann",
  "users2:x:100:ann",
].join("\n");
const box = tree({ "/etc/passwd": PASSWD, "/etc/group": GROUP });

describe("the user that a name means in a sandbox", () => {
  test("is what the sandbox's own databases say", () => {
    expect(resolveUser(box, "ann")).toEqual({
      uid: 1500,
      gid: 100,
      groups: [29, 998],
      name: "ann",
      home: "/home/ann",
      shell: "/bin/zsh",
    });
    expect(resolveUser(box, "1500")).toEqual(resolveUser(box, "ann"));
  });

  test("has the group that is asked for, and no others", () => {
    expect(resolveUser(box, "ann:audio")).toMatchObject({ uid: 1500, gid: 29, groups: [] });
    expect(resolveUser(box, "1500:0")).toMatchObject({ uid: 1500, gid: 0, groups: [], home: "/home/ann" });
    expect(resolveUser(box, "root:4242")).toMatchObject({ uid: 0, gid: 4242 });
  });

  test("needs no entry where it is a number", () => {
    expect(resolveUser(box, "4242")).toEqual({
      uid: 4242,
      gid: 0,
      groups: [],
      name: "4242",
      home: "/",
      shell: "/bin/sh",
    });
    expect(resolveUser(box, "4242:77")).toMatchObject({ uid: 4242, gid: 77 });
  });

  test("is root or agent also in an image that knows nobody", () => {
    expect(resolveUser(tree({}), "root")).toMatchObject({ uid: 0, gid: 0, home: "/root", shell: "/bin/sh" });
    expect(resolveUser(tree({}), "agent")).toMatchObject({ uid: 1000, gid: 1000, home: "/home/agent" });
    expect(resolveUser(tree({}), "0:agent")).toMatchObject({ uid: 0, gid: 1000 });
  });

  test("is refused by its name where nobody has it, with the nearest one", () => {
    expect(() => resolveUser(box, "anne")).toThrow(
      expect.objectContaining({ code: "user-unknown", next: "did you mean ann?" }),
    );
    expect(() => resolveUser(box, "ann:dokcer")).toThrow(
      expect.objectContaining({ code: "user-unknown", next: "did you mean docker?" }),
    );
  });

  test.each([
    "",
    ":",
    "ann:",
    ":audio",
    "ann:audio:x",
    "-1",
    "4294967295",
    "99999999999",
    "1e3",
    "0x0",
    "an n",
    "+",
    "\0",
  ])("is not %j", (user) => {
    expect(() => resolveUser(box, user)).toThrow(expect.objectContaining({ code: "user-unknown" }));
  });

  test.each([
    ["binary noise", Buffer.from([0, 255, 10, 58, 58, 58, 10, 200]).toString("latin1")],
    ["numbers that are none", "ann:x:-1:0::/:/\nann:x:1e9:0::/:/\nann:x:99999999999:0::/:/"],
    ["entries that end early", "ann\nann:x\nann:x:5\n:::::\n"],
    ["compatibility entries", "+::::::\n+ann:x:0:0::/root:/bin/bash\n-ann\n"],
    ["one endless line", "a".repeat(900_000)],
  ])("is unknown where the database is %s", (_, passwd) => {
    expect(() => resolveUser(tree({ "/etc/passwd": passwd, "/etc/group": passwd }), "ann")).toThrow(
      expect.objectContaining({ code: "user-unknown" }),
    );
  });

  test("lives nowhere odd, whatever its entry says", () => {
    const odd = tree({ "/etc/passwd": `ann:x:7:7::../../etc:sh\nbob:x:8:8::/${"h".repeat(5_000)}:/a\0b` });
    expect(resolveUser(odd, "ann")).toMatchObject({ home: "/", shell: "/bin/sh" });
    expect(resolveUser(odd, "bob")).toMatchObject({ home: "/", shell: "/bin/sh" });
  });
});

describe.skipIf(obstacle)(suite("users of the base image"), () => {
  test("are found in its root filesystem", async () => {
    const image = await ensureBaseImage(defaultHome());
    const root = new Tree(image.rootfs);
    expect(resolveUser(root, "agent")).toMatchObject({
      uid: 1000,
      gid: 1000,
      home: "/home/agent",
      shell: "/bin/bash",
    });
    expect(resolveUser(root, "daemon")).toMatchObject({ uid: 1, gid: 1 });
    root.close();
  });
});
