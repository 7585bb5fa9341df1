import { Limits, NetworkPolicy } from "@ale/core";
import { BASE_IMAGE, enterRootless, OciDriver, type SandboxSpec } from "../src/index.ts";

/** What an ordinary user does; started by rootless.test.ts as one. Prints one line of JSON. */

enterRootless();

const spec: SandboxSpec = {
  image: BASE_IMAGE,
  files: [{ path: "/work/given", content: "from outside\n", mode: 0o640, owner: "agent" }],
  limits: Limits.parse({ pids: 20, memoryBytes: 2 ** 28, diskBytes: 2 ** 23, execTimeoutMs: 10_000 }),
  network: { mode: "none" },
  workdir: "/work",
};

async function refusal(): Promise<unknown> {
  await using strict = new OciDriver({ unenforced: ["cpu"] });
  return await strict.create(spec).then(
    () => "made",
    (error: { code: string; message: string; next: string }) => ({
      code: error.code,
      message: error.message,
    }),
  );
}

/** Where he asks for a network. */
async function networkRefusal(driver: OciDriver): Promise<unknown> {
  const network = NetworkPolicy.parse({ mode: "open" });
  return await driver.create({ ...spec, network }).then(
    () => "made",
    (error: { code: string }) => error.code,
  );
}

await using driver = new OciDriver({ unenforced: ["memory", "cpu"] });
await using box = await driver.create(spec);
const shell = await box.shell.run("id -un; cat given; stat -c '%U %a' given; hostname");
const fork =
  "my $n = 0; while ($n < 100) { my $p = fork; last if !defined $p; if (!$p) { sleep 20; exit } $n++ } print $n";
const forks = await box.exec({ argv: ["perl", "-e", fork], user: "root", timeoutMs: 500 });
await box.killAgentProcesses();
const agentForks = await box.exec({ argv: ["perl", "-e", fork], timeoutMs: 500 });
await box.killAgentProcesses();
const root = await box.exec({
  argv: [
    "bash",
    "-c",
    "chown 5:6 /work/given; rm /etc/motd /etc/passwd; stat -c %u:%g /work/given; head -c 20000000 /dev/zero > /work/big; rm /work/big; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; cat /proc/sys/kernel/core_pattern > /proc/sys/kernel/core_pattern || echo kept; mknod /tmp/x c 1 1 || echo none",
  ],
  user: "root",
});
await box.writeFiles([{ path: "/work/later", content: "later\n", mode: 0o600, owner: "root" }]);
const later = await box.exec({ argv: ["cat", "/work/later"], user: "root" });
console.log(
  JSON.stringify({
    capabilities: await driver.capabilities(),
    refused: await refusal(),
    networkRefused: await networkRefusal(driver),
    shell: shell.output,
    forks: forks.stdout,
    agentForks: agentForks.stdout,
    root: root.stdout,
    rootErrors: root.stderr,
    later: later.stdout,
  }),
);
