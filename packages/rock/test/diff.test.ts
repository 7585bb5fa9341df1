import { createHash } from "node:crypto";
import { afterAll, describe, expect, test } from "vitest";
import type { DiffEntry, Sandbox } from "../src/index.ts";
import { closeDriver, driver, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

const sha = (text: string): string => createHash("sha256").update(text).digest("hex");

async function asRoot(box: Sandbox, script: string): Promise<void> {
  const { stderr, exitCode } = await box.exec({ argv: ["bash", "-ec", script], user: "root" });
  expect(`${stderr}${exitCode}`).toBe("0");
}

const take = async (box: Sandbox): Promise<string> => (await box.snapshot()).snapshot.id;

const lines = (entries: readonly DiffEntry[]): string[] =>
  entries.map(({ change, type, path }) => `${change} ${type} ${path}`);

describe.skipIf(obstacle)(suite("the difference of two snapshots"), () => {
  test("is exactly what was changed, with hashes before and after", async () => {
    await using box = await sandbox();
    await asRoot(
      box,
      "mkdir -p /d/sub; echo old > /d/file; echo gone > /d/gone; ln -s file /d/link; echo same > /d/same",
    );
    const from = await take(box);
    const change = [
      "echo new > /d/file; rm /d/gone; ln -sfn other /d/link; echo fresh > /d/sub/fresh; mkfifo /d/pipe; mkdir /d/empty",
      "cat /d/same > /tmp/x; cp /tmp/x /d/same; rm /tmp/x; touch /d/same; touch /etc",
    ];
    for (const script of change) await asRoot(box, script);
    const to = await take(box);
    const { snapshots } = await driver();
    expect(await snapshots.diff(from, to)).toEqual([
      { path: "/d/empty", change: "added", type: "directory", before: null, after: null },
      { path: "/d/file", change: "changed", type: "file", before: sha("old\n"), after: sha("new\n") },
      { path: "/d/gone", change: "removed", type: "file", before: sha("gone\n"), after: null },
      { path: "/d/link", change: "changed", type: "symlink", before: sha("file"), after: sha("other") },
      { path: "/d/pipe", change: "added", type: "other", before: null, after: null },
      { path: "/d/sub/fresh", change: "added", type: "file", before: null, after: sha("fresh\n") },
    ]);
    expect(await snapshots.diff(to, to)).toEqual([]);
    // The other way round.
    expect(lines(await snapshots.diff(to, from))).toEqual([
      "removed directory /d/empty",
      "changed file /d/file",
      "added file /d/gone",
      "changed symlink /d/link",
      "removed other /d/pipe",
      "removed file /d/sub/fresh",
    ]);
  });

  test("sees permissions, owners and changes of type", async () => {
    await using box = await sandbox();
    await asRoot(
      box,
      "mkdir /t /t/dir; for f in mode owner tofile todir; do echo $f > /t/$f; done; mkdir /t/tofile2; echo x > /t/tofile2/in",
    );
    const from = await take(box);
    await asRoot(
      box,
      "chmod 600 /t/mode; chown agent /t/owner; chmod 700 /t/dir; rm /t/todir; mkdir /t/todir; echo y > /t/todir/y; rm -r /t/tofile2; echo z > /t/tofile2; rm /t/tofile; ln -s x /t/tofile",
    );
    const to = await take(box);
    const entries = await (await driver()).snapshots.diff(from, to);
    expect(lines(entries)).toEqual([
      "changed directory /t/dir",
      "changed file /t/mode",
      "changed file /t/owner",
      "changed directory /t/todir",
      "added file /t/todir/y",
      "changed symlink /t/tofile",
      "changed file /t/tofile2",
      "removed file /t/tofile2/in",
    ]);
    expect(entries[1]).toMatchObject({ before: sha("mode\n"), after: sha("mode\n") });
  });

  test("from the image: removed trees with all that was in them, replaced ones with what differs; no runtime mounts", async () => {
    await using box = await sandbox();
    const clean = await take(box);
    const { snapshots } = await driver();
    expect(lines(await snapshots.diff(null, clean))).toEqual(["added directory /work"]);
    const { stdout } = await box.exec({
      argv: ["bash", "-c", "find /etc/pam.d /etc/alternatives \\( -type f -o -type d -o -type l \\) | sort"],
      user: "root",
    });
    const before = stdout.trim().split("\n");
    const kept = before.find((path) => path.startsWith("/etc/pam.d/"))!;
    await asRoot(
      box,
      "rm -r /etc/alternatives; rm -r /etc/pam.d; mkdir /etc/pam.d; echo new > /etc/pam.d/new; echo 1 > /dev/shm/x",
    );
    const to = await take(box);
    const entries = await snapshots.diff(null, to);
    const removed = entries.filter((entry) => entry.change === "removed").map((entry) => entry.path);
    expect(removed).toEqual(before.filter((path) => path !== "/etc/pam.d"));
    expect(removed).toContain(kept);
    expect(entries.filter((entry) => entry.change !== "removed").map((entry) => entry.path)).toEqual([
      "/etc/pam.d/new",
      "/work",
    ]);
    expect(lines(await snapshots.diff(clean, to)).length).toBe(entries.length - 1);
  });

  test("between two forks is what sets them apart", async () => {
    await using box = await sandbox();
    await asRoot(box, "mkdir /d; echo common > /d/common; echo a > /d/a");
    const { snapshots } = await driver();
    const forks = await snapshots.fork(await take(box), 2);
    await asRoot(forks[0]!, "echo left > /d/common; echo l > /d/l; echo both > /d/both");
    await asRoot(
      forks[1]!,
      "rm -r /d; mkdir /d; echo common > /d/common; echo a > /d/a; echo both > /d/both",
    );
    const [left, right] = await Promise.all(forks.map(take));
    expect(lines(await snapshots.diff(left!, right!))).toEqual([
      "changed file /d/common",
      "removed file /d/l",
    ]);
    await Promise.all(forks.map((fork) => fork.destroy()));
    await expect(snapshots.diff("sn-x", left!)).rejects.toMatchObject({ code: "snapshot-unknown" });
  });
});
