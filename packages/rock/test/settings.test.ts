import { err, ok } from "@ale/core";
import { afterAll, describe, expect, test } from "vitest";
import { ownDirectory, type SettingsSource, settingsFor } from "../src/oci/settings.ts";
import { closeDriver, file, obstacle, sandbox, suite } from "./support.ts";

afterAll(closeDriver);

const passwd = "root:x:0:0::/root:/bin/bash\napp:x:500:600::/srv/app:/usr/sbin/nologin\n";
const group = "app:x:600:\naudio:x:29:app\n";

function source(
  more: { spec?: SettingsSource["spec"]; config?: Partial<SettingsSource["config"]> } = {},
): SettingsSource {
  const contents: Record<string, string> = { "/etc/passwd": passwd, "/etc/group": group };
  return {
    spec: more.spec ?? {},
    config: { user: "app", workdir: "/srv", env: {}, ...more.config },
    files: {
      read: (path) =>
        contents[path] === undefined ? err({ type: "not-found", path }) : ok(Buffer.from(contents[path])),
    },
  };
}

describe("settings", () => {
  test("are the image's where nobody says otherwise", () => {
    expect(settingsFor(source(), {})).toEqual({
      uid: 500,
      gid: 600,
      groups: [29],
      cwd: "/srv",
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: "/srv/app",
        USER: "app",
        LOGNAME: "app",
        SHELL: "/bin/sh",
        LANG: "C.UTF-8",
        TERM: "dumb",
      },
    });
  });

  test("of the request go before those of the spec, and those before the image's", () => {
    const all = source({
      spec: { user: "root", workdir: "/spec", env: { B: "spec", C: "spec" } },
      config: { env: { A: "image", B: "image", C: "image", PATH: "/opt/bin" } },
    });
    expect(settingsFor(all, { env: { C: "request" } })).toMatchObject({
      uid: 0,
      cwd: "/spec",
      env: { A: "image", B: "spec", C: "request", PATH: "/opt/bin", HOME: "/root" },
    });
    expect(settingsFor(all, { user: "app", cwd: "/tmp" })).toMatchObject({ uid: 500, cwd: "/tmp" });
  });

  test("keep root that looks after another's sandbox out of that one's directory", () => {
    expect(settingsFor(source(), { user: "root" }).cwd).toBe("/");
    expect(settingsFor(source({ config: { user: "" } }), { user: "root" }).cwd).toBe("/srv");
    expect(settingsFor(source({ config: { user: "" } }), {})).toMatchObject({ uid: 0, cwd: "/srv" });
    expect(ownDirectory(source({ config: { workdir: "" } }))).toBe("/");
  });

  test("need a user that the sandbox has, or a number", () => {
    expect(() => settingsFor(source(), { user: "nobody-knows" })).toThrow("nobody-knows");
    expect(settingsFor(source(), { user: "1234:99" })).toMatchObject({ uid: 1234, gid: 99, groups: [] });
  });

  test("tell a program on a terminal what its terminal can do", () => {
    expect(settingsFor(source(), { terminal: true }).env.TERM).toBe("xterm-256color");
  });
});

describe.skipIf(obstacle)(suite("users of a sandbox"), () => {
  const who =
    "id -u; id -g; id -G; grep -E '^(NoNewPrivs|CapEff|CapBnd):' /proc/self/status; pwd; echo $HOME";
  const powerless = "CapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n";

  test("are the spec's for the first shell, other shells, programs and files", async () => {
    await using box = await sandbox({ user: "games", workdir: "/play", files: [file("/play/mine", "x")] });
    const uid = (await box.exec({ argv: ["id", "-u", "games"], user: "root" })).stdout;
    expect(uid).toMatch(/^[1-9]\d*\n$/);
    const expected = `${uid}${(await box.shell.run("id -g games; id -G games")).output}${powerless}/play\n/usr/games\n`;
    expect((await box.shell.run(who)).output).toBe(expected);
    expect((await (await box.openSession()).run(who)).output).toBe(expected);
    expect((await box.exec({ argv: ["bash", "-c", who] })).stdout).toBe(expected);
    expect((await box.shell.run("stat -c %U mine .")).output).toBe("games\ngames\n");
  });

  test("may be root, who has nothing that reaches the host", async () => {
    await using box = await sandbox({ user: "root", workdir: "/play" });
    const { output } = await box.shell.run(who);
    expect(output).toMatch(
      /^0\n0\n0\nCapEff:\t00000000000001fb\nCapBnd:\t00000000000001fb\nNoNewPrivs:\t1\n\/play\n\/root\n$/,
    );
    expect((await box.exec({ argv: ["pwd"], user: "root" })).stdout).toBe("/play\n");
  });

  test("may be numbers, with groups, that the image does not know", async () => {
    await using box = await sandbox();
    const session = await box.openSession({ user: "4321:5", cwd: "/tmp" });
    expect((await session.run(who)).output).toBe(`4321\n5\n5\n${powerless}/tmp\n/\n`);
    const started = await box.start({
      argv: ["bash", "-c", who],
      user: "4321:5",
      cwd: "/tmp",
      tty: { cols: 80, rows: 24 },
    });
    let shown = "";
    for await (const chunk of started.stdout) shown += String(Buffer.from(chunk));
    expect(shown.replaceAll("\r", "")).toBe(`4321\n5\n5\n${powerless}/tmp\n/\n`);
  });

  test("have the supplementary groups that /etc/group gives them, also when they were made later", async () => {
    await using box = await sandbox();
    await box.exec({
      argv: [
        "bash",
        "-c",
        "echo 'late:x:7000:7000::/:/bin/sh' >> /etc/passwd; echo 'crew:x:7001:late' >> /etc/group",
      ],
      user: "root",
    });
    expect((await box.exec({ argv: ["id", "-G"], user: "late" })).stdout).toBe("7000 7001\n");
  });

  test("cannot look into PID 1 or change it, not even root", async () => {
    await using box = await sandbox({ user: "root" });
    const { output } = await box.shell.run(
      "cat /proc/1/environ /proc/1/mem /proc/1/maps; ls -l /proc/1/fd; echo > /proc/1/mem",
    );
    expect(output.match(/Permission denied/g)?.length).toBeGreaterThanOrEqual(4);
    expect(output).not.toMatch(/->/);
  });
});
