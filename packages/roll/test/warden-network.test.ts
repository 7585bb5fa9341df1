import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { type Event, type Instance, NetworkPolicy } from "@ale/core";
import { openOciDriver } from "@ale/rock";
import { describe, expect, onTestFinished, test } from "vitest";
import { guarded, home, instance, whyNoSandbox } from "./guarded.ts";

/** A world outside that answers on loopback whatever name it is asked for, and a driver whose way out leads there and nowhere else. */
async function outside() {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(String(request.headers.host));
    response.end("hello\n");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  const driver = openOciDriver({
    home,
    egress: {
      upstream: {
        resolve: async () => ["203.0.113.5"],
        dial: () => connect({ host: "127.0.0.1", port }),
      },
    },
  });
  onTestFinished(async () => {
    await driver[Symbol.asyncDispose]();
    server.closeAllConnections();
    server.close();
  });
  return { asked, driver };
}

const allowing = (name: string): NetworkPolicy =>
  NetworkPolicy.parse({ mode: "allowlist", hosts: [{ name }] });

const get = (host: string): string =>
  `(exec 3<>/dev/tcp/${host}/80 && printf 'GET / HTTP/1.1\\r\\nHost: ${host}\\r\\nConnection: close\\r\\n\\r\\n' >&3 && tail -1 <&3) 2>/dev/null || echo refused`;

/** Its verifier passes where it reaches its own host and not the agent's. */
const VERIFIER = `[ "$(${get("tests.test")})" = hello ] && [ "$(${get("agent.test")})" = refused ]
echo $((1 - $?)) > /logs/verifier/reward.txt
`;

const reason = whyNoSandbox();
const can = reason === null ? (await capabilities()).network : [];

async function capabilities() {
  await using driver = openOciDriver({ home });
  return driver.capabilities();
}

describe.skipIf(!can.includes("allowlist"))("the install step of an instance", () => {
  const installing = (fields: Partial<Instance["install"] & object>) =>
    instance({
      schema: "ale/instance@2",
      networkPhases: { install: allowing("setup.test") },
      install: { commands: [], env: {}, timeoutMs: 30_000, ...fields },
    });

  test("runs before the agent with the network of its phase, and the log tells it apart from the agent's", async () => {
    const { driver, asked } = await outside();
    const { results, events, of, reward } = await guarded(driver, [get("setup.test"), "cat got; id -un"], {
      instance: installing({
        commands: [
          { command: `{ ${get("setup.test")}; } | tee $TARGET; ${get("agent.test")}; id -un`, user: "root" },
          { command: "chmod 600 got 2>/dev/null || echo not mine", user: "agent" },
        ],
        env: { TARGET: "got" },
      }),
      watch: { rules: [] },
    });
    expect(of("install")).toMatchObject([
      {
        step: 0,
        user: "root",
        network: "allowlist setup.test:80,443",
        exitCode: 0,
        stdout: "hello\nrefused\nroot\n",
      },
      { step: 1, user: "agent", stdout: "not mine\n" },
    ]);
    // The agent has what was installed, and no longer the way there.
    expect(results.slice(0, 2).map(({ content }) => content)).toEqual(["refused", "hello\nagent"]);
    expect(asked).toEqual(["setup.test"]);
    expect(reward).toBe(1);
    // No chunk is to blame for it.
    expect(of("model.call")).toHaveLength(3);
    const first = events.findIndex(({ type }) => type === "model.call");
    expect(events.findLastIndex(({ type }) => type === "install")).toBeLessThan(first);
    const during = of("telemetry").filter(({ phase }) => phase === "install");
    expect(during.every(({ chunk }) => chunk === null)).toBe(true);
    expect(during.map(({ record }) => [record.kind, record.dns?.name ?? record.net?.host])).toEqual(
      expect.arrayContaining([
        ["dns.query", "setup.test"],
        ["dns.query", "agent.test"],
      ]),
    );
    const change = events.findIndex(
      (event) => event.type === "telemetry" && event.record.kind === "policy.change",
    );
    expect(events[change]).toMatchObject({ record: { tool: { name: "network for agent" } } });
    expect(change).toBeLessThan(first);
  }, 120_000);

  test("that fails, or is not done in time, is a fault of the environment and no chunk", async () => {
    await using driver = openOciDriver({ home });
    const failed = await guarded(driver, ["true"], {
      instance: {
        ...installing({
          commands: [
            { command: "echo half-way; no-such-installer", user: "root" },
            { command: "echo never", user: "root" },
          ],
        }),
        networkPhases: undefined,
      },
    });
    expect(failed.termination).toBe("environment-fault");
    expect(failed.of("install")).toMatchObject([{ step: 0, exitCode: 127, stdout: "half-way\n" }]);
    expect(failed.of("fault")).toMatchObject([
      { what: "install", detail: expect.stringMatching(/command 1 .* exited with 127: .*no-such-installer/) },
    ]);
    expect(failed.of("model.call")).toEqual([]);
    const late = await guarded(driver, ["true"], {
      instance: {
        ...installing({
          commands: [
            { command: "sleep 0.5", user: "root" },
            { command: "sleep 60", user: "root" },
          ],
          timeoutMs: 1_500,
        }),
        networkPhases: undefined,
      },
    });
    expect(late.of("install")).toMatchObject([{ timedOut: false }, { timedOut: true, exitCode: null }]);
    expect(late.of("fault")).toMatchObject([{ detail: expect.stringContaining("within the 1500 ms") }]);
    expect(driver.list()).toEqual([]);
  }, 120_000);
});

describe.skipIf(!can.includes("allowlist"))("the network of an episode", () => {
  test("changes from phase to phase, and each change is in the log", async () => {
    const { driver, asked } = await outside();
    const { results, events, of, reward } = await guarded(
      driver,
      [get("agent.test"), get("tests.test"), get("setup.test")],
      {
        instance: instance({
          network: allowing("agent.test"),
          networkPhases: { install: allowing("setup.test"), verifier: allowing("tests.test") },
          verifier: {
            files: [{ path: "/tests/test.sh", content: VERIFIER, mode: 0o755, owner: "root" }],
            command: "bash /tests/test.sh",
            rewardPath: "/logs/verifier/reward.txt",
            timeoutMs: 60_000,
          },
        }),
        watch: { rules: [] },
      },
    );
    expect(results.slice(0, 3).map(({ content }) => content)).toEqual(["hello", "refused", "refused"]);
    expect(reward).toBe(1);
    expect(asked).toEqual(["agent.test", "tests.test"]);
    const changes = of("telemetry").filter(({ record }) => record.kind === "policy.change");
    expect(changes.map(({ chunk, record }) => [chunk, record.tool])).toEqual([
      [null, { name: "network for agent", command: "allowlist agent.test:80,443" }],
      [null, { name: "network for verifier", command: "allowlist tests.test:80,443" }],
    ]);
    const at = (event: Event | undefined): number => events.indexOf(event!);
    expect(at(changes[0])).toBeLessThan(at(events.find(({ type }) => type === "model.call")));
    expect(at(changes[1])).toBeGreaterThan(at(of("episode.end")[0]));
  }, 120_000);

  test("what the verifier does is blamed on no chunk", async () => {
    const { driver } = await outside();
    const { of, reward } = await guarded(driver, ["true"], {
      instance: instance({
        network: { mode: "none" },
        networkPhases: { verifier: allowing("tests.test") },
        verifier: {
          files: [
            {
              path: "/tests/test.sh",
              // To the service that hands out a cloud's credentials: critical, and the end of an agent.
              content: `${get("169.254.169.254")}; echo 1 > /logs/verifier/reward.txt\n`,
              mode: 0o755,
              owner: "root",
            },
          ],
          command: "bash /tests/test.sh",
          rewardPath: "/logs/verifier/reward.txt",
          timeoutMs: 60_000,
        },
      }),
    });
    expect(reward).toBe(1);
    expect(of("alert")).toEqual([]);
  }, 120_000);

  test("stops an agent that asks for a cloud's credentials, with chunk and process", async () => {
    const { driver, asked } = await outside();
    const { of, termination } = await guarded(driver, ["true", `${get("169.254.169.254")}; sleep 60`], {
      instance: instance({ network: allowing("agent.test") }),
    });
    expect(termination).toBe("stopped-by-guard");
    expect(asked).toEqual([]);
    const [first] = of("alert");
    expect(first).toMatchObject({ chunk: 1, alert: { rule: "metadata-access", response: "stop" } });
  }, 120_000);

  test("refuses a task whose phases the driver cannot have, before anything begins", async () => {
    const { driver } = await outside();
    const types: string[] = [];
    const tried = guarded(driver, ["true"], {
      instance: instance({ networkPhases: { verifier: NetworkPolicy.parse({ mode: "gateway-only" }) } }),
      onEvent: ({ type }) => types.push(type),
    });
    await expect(tried).rejects.toMatchObject({ code: "network-unsupported" });
    expect(types).toEqual(["episode.begin", "fault", "episode.end"]);
    expect(driver.list()).toEqual([]);
  }, 60_000);
});
