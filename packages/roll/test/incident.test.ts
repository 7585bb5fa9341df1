import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type Event, type EventOf, type LogEntry, readEpisodeLog } from "@ale/core";
import { type Incident, incidentsOf } from "@ale/guard";
import { defaultHome, OciDriver, probeHost, resolveImage, type Sandbox } from "@ale/rock";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { probeCgroups, processesOf } from "../../rock/src/host/cgroup.ts";
import { findTool } from "../../rock/src/host/tools.ts";
import { freshHome } from "../../rock/test/support.ts";
import { type Attempt, attackFiles, attempts, SLEEPER } from "./incident/attempts.ts";
import { Daemon } from "./incident/daemon-client.ts";
import { ATTACK_IMAGE, ensureAttackImage } from "./incident/image.ts";
import { attackSpec, openWorld, type World } from "./incident/world.ts";

const obstacle = probeHost(defaultHome())
  .filter((check) => !check.ok && check.name !== "base image")
  .map((check) => `${check.name}: ${check.detail}`)[0];
const suite = (name: string, why = obstacle): string => (why ? `${name} (skipped: ${why})` : name);

describe.skipIf(obstacle)(suite("the incident, with nothing in its way"), () => {
  let driver: OciDriver;
  let world: World;
  let free: Sandbox;
  let neighbour: string;

  beforeAll(async () => {
    await ensureAttackImage();
    driver = new OciDriver();
    world = await openWorld(driver);
    // Not bound to a resolver of ours.
    const image = resolveImage(defaultHome(), ATTACK_IMAGE);
    free = await driver.createFrom(image, attackSpec({ files: attackFiles(world.key) }));
    await world.plugIn(free);
    const other = await driver.create(attackSpec());
    neighbour = await world.plugIn(other);
    await other.start({ argv: ["python3", "-m", "http.server", "8000"], timeoutMs: 600_000 });
  }, 600_000);

  afterAll(async () => {
    await world?.[Symbol.asyncDispose]();
    await driver?.[Symbol.asyncDispose]();
  });

  it.each(attempts("NEIGHBOUR").map(({ name }, number) => ({ name, number })))(
    "$name succeeds",
    async ({ number }) => {
      const attempt = attempts(neighbour)[number]!;
      const before = world.heard.length;
      const { output } = await free.shell.run(attempt.command);
      const heard = world.heard.slice(before);
      expect(attempt.worked(heard, output), JSON.stringify({ heard, output })).toBe(true);
    },
  );

  it("a process that was left behind succeeds", async () => {
    await free.shell.run(SLEEPER.begin);
    expect(SLEEPER.worked(world.heard)).toBe(false);
    await free.shell.run(SLEEPER.wake);
    expect(SLEEPER.worked(world.heard)).toBe(true);
  });
});

const noGateway = obstacle ?? (findTool("nft") === undefined ? "nft is not installed" : undefined);

describe.skipIf(noGateway)(suite("the incident, under the default policy", noGateway), () => {
  let driver: OciDriver;
  let world: World;
  let home: Disposable & { readonly path: string };
  let daemon: Daemon;
  let box: string;
  let tries: readonly Attempt[];
  let turns: readonly string[];
  let log: readonly LogEntry[];
  let incidents: readonly Incident[];
  const shell = (command: string) => daemon.ask<{ output: string }>({ order: "shell", box, command });
  const play = async (commands: readonly string[], responses: boolean) => {
    const files = attackFiles(world.key);
    const directory = join(home.path, "episodes");
    const played = await daemon.ask<{ log: string; termination: string }>({
      order: "episode",
      files,
      commands,
      responses,
      directory,
    });
    return { ...played, log: (await readEpisodeLog(played.log)).entries };
  };

  beforeAll(async () => {
    await ensureAttackImage();
    driver = new OciDriver();
    world = await openWorld(driver);
    home = await freshHome();
    daemon = await Daemon.start(world, home.path);
    ({ box } = await daemon.ask<{ box: string }>({ order: "open", files: [] }));
    const other = await daemon.ask<{ box: string; address: string }>({ order: "open", files: [] });
    const command = "python3 -m http.server 8000 >/dev/null 2>&1 &";
    await daemon.ask({ order: "shell", box: other.box, command });
    tries = attempts(other.address);
    turns = [
      ...tries.slice(0, SLEEPER.begun).map((attempt) => attempt.command),
      SLEEPER.begin,
      ...tries.slice(SLEEPER.begun, SLEEPER.woken - 1).map((attempt) => attempt.command),
      SLEEPER.wake,
      ...tries.slice(SLEEPER.woken - 1).map((attempt) => attempt.command),
    ];
    ({ log } = await play(turns, false));
    incidents = incidentsOf(log);
  }, 600_000);

  afterAll(async () => {
    await daemon?.[Symbol.asyncDispose]();
    await using next = new OciDriver({ home: home.path });
    await next.reap();
    await world?.[Symbol.asyncDispose]();
    await driver?.[Symbol.asyncDispose]();
    home?.[Symbol.dispose]();
  });

  it("was played to its end, one command a chunk", () => {
    const calls = eventsOf(log, "tool.call").map(({ call }) => call.arguments.command);
    expect(calls.slice(0, -1)).toEqual(turns);
  });

  it("sent nothing out: not one frame", () => {
    expect(world.fromHost.count(), world.fromHost.lately.join("\n")).toBe(0);
    expect(world.heard).toEqual([]);
  });

  it.each(attempts("NEIGHBOUR").map(({ name, rule }, number) => ({ name, rule, number })))(
    "$name is one incident: $rule",
    ({ number }) => {
      const attempt = tries[number]!;
      const chunk = turns.indexOf(attempt.command);
      const result = eventsOf(log, "tool.result").find((one) => one.chunk === chunk)!;
      expect(attempt.worked([], result.content), result.content).toBe(false);
      const mine = incidents.filter((incident) => incident.chunk === chunk);
      expect(mine.map(({ rule }) => rule)).toEqual([attempt.written ?? attempt.rule]);
      const signal = mine[0]!.signals.find(({ rule }) => rule === attempt.rule);
      // What the call's own text says is told before it runs, and what is seen of it joins that.
      const told = attempt.said
        ? { source: "command", attribution: "certain" }
        : { source: "telemetry", attribution: "ancestry" };
      expect(signal).toMatchObject(told);
      expect(mine[0]!.callIds).toEqual([result.callId]);
      expect(culpritsOf(mine[0]!)).toContainEqual(expect.stringMatching(attempt.process));
    },
  );

  it("what a process that was left behind does is an incident of the chunk that began it", () => {
    const [incident, ...more] = incidents.filter(({ chunk }) => chunk === SLEEPER.begun);
    expect(more).toEqual([]);
    expect(incident).toMatchObject({ rule: SLEEPER.rule, during: [SLEEPER.woken] });
    expect(culpritsOf(incident!)).toContainEqual(expect.stringMatching(SLEEPER.process));
    expect(incidents.filter(({ chunk }) => chunk === SLEEPER.woken)).toEqual([]);
  });

  it("there are no other incidents", () => {
    expect(incidents.map(({ chunk, rule }) => ({ chunk, rule }))).toHaveLength(tries.length + 1);
  });

  it("with guard's responses the first of them ends the episode, and its sandbox", async () => {
    const { log: stopped, termination } = await play([tries[0]!.command, "echo still here"], true);
    expect(termination).toBe("stopped-by-guard");
    expect(eventsOf(stopped, "tool.call")).toHaveLength(1);
    expect(incidentsOf(stopped).map(({ rule }) => rule)).toEqual([tries[0]!.written]);
    expect(world.fromHost.count()).toBe(0);
  });

  it("the same way leads out for what is allowed", async () => {
    const { output } = await shell("curl -s http://files.test/a");
    expect(output).toBe("a file\n");
    expect(world.fromHost.count()).toBeGreaterThan(0);
  });

  it("a daemon that hangs, and then dies, lets nothing more through", async () => {
    const asks = "curl -s -m 1 http://files.test/b ; curl -s -m 1 http://203.0.113.10/c; echo >> /tmp/tries";
    await shell(`(while :; do ${asks}; done) >/dev/null 2>&1 &`);
    const root = rootOf(box);
    const tried = (): number => readFileSync(`${root}/tmp/tries`).length;
    const served = (): number => world.heard.filter(({ said }) => said.endsWith("/b")).length;
    await until("the sandbox fetches what it may", async () => served() > 5);
    await daemon.signal("SIGSTOP");
    // What kernels still say of the connections that were open is over soon.
    await quiet(() => world.fromHost.packets());
    const [before, packets, count] = [served(), world.fromHost.packets(), tried()];
    await until("it goes on trying", async () => tried() > count + 2);
    expect(world.fromHost.packets(), world.fromHost.lately.join("\n")).toBe(packets);
    await daemon.signal("SIGKILL");
    await until("nothing of the sandbox is left", async () => !existsSync(`${root}/tmp`));
    expect(served()).toBe(before);
    expect(world.heard.filter(({ said }) => said.includes("/c"))).toEqual([]);
  }, 240_000);
});

/** The files of a sandbox as its first process sees them, from outside. */
function rootOf(id: string): string {
  const pids = processesOf(probeCgroups(), id);
  return `/proc/${Math.min(...pids)}/root`;
}

/** Command lines of the processes that gave rise to an alert, or had a connection of it. */
const culpritsOf = ({ processes, flows }: Incident): (string | undefined)[] =>
  processes
    .filter(({ pid, alerted }) => alerted || flows.some((flow) => flow.pid === pid))
    .map(({ command }) => command);

const eventsOf = <T extends Event["type"]>(log: readonly LogEntry[], type: T): EventOf<T>[] =>
  log.flatMap((entry) => (entry.known && entry.event.type === type ? [entry.event as EventOf<T>] : []));

/** Waits until a count stays as it is for a second. */
async function quiet(count: () => number): Promise<void> {
  for (let last = -1; last !== count(); ) {
    last = count();
    await new Promise((resolve) => setTimeout(resolve, 1_000));
  }
}

async function until(what: string, holds: () => Promise<boolean>, timeoutMs = 60_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`never came true: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
