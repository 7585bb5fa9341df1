import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AleError } from "@ale/core";
import { afterAll, describe, expect, test } from "vitest";
import type { Quota } from "../src/server/quota.ts";
import { DEFAULT_QUOTA } from "../src/server/quota.ts";
import type { SandboxRecord } from "../src/server/record.ts";
import { SandboxService, type SandboxServiceOptions } from "../src/server/service.ts";
import { closeDriver, driver, obstacle, spec, suite } from "./support.ts";

const directories: string[] = [];

async function service(more: Partial<SandboxServiceOptions> = {}): Promise<SandboxService> {
  const directory = mkdtempSync(join(tmpdir(), "ale-service-"));
  directories.push(directory);
  return SandboxService.open({ driver: await driver(), directory, ...more });
}

const quota = (more: Partial<Quota>) => (): Quota => ({ ...DEFAULT_QUOTA, ...more });

const codeOf = async (attempt: () => unknown): Promise<string> => {
  try {
    await attempt();
  } catch (error) {
    return (error as AleError).code;
  }
  return "none";
};

describe.skipIf(obstacle)(suite("the sandbox service"), () => {
  afterAll(async () => {
    await closeDriver();
    for (const directory of directories) rmSync(directory, { recursive: true, force: true });
  });

  test("a new sandbox is pending at once and runs soon, with its phases", async () => {
    await using rock = await service();
    const born = rock.create("a", { spec: spec() });
    expect(born.state).toBe("pending");
    const record = await rock.wait("a", born.id);
    expect(record.state).toBe("running");
    expect([record.phases.image.status, record.phases.start.status]).toEqual(["success", "success"]);
    const sandbox = await rock.use("a", born.id);
    expect((await sandbox.exec({ argv: ["echo", "hi"] })).stdout).toBe("hi\n");
  });

  test("an unknown image fails in the image phase, and what to do is said", async () => {
    await using rock = await service();
    const { id } = rock.create("a", { spec: spec({ image: "no/such:image" }) });
    const record = await rock.wait("a", id);
    expect(record).toMatchObject({ state: "failed", phases: { image: { status: "failed" } } });
    expect(record.failure?.code).toMatch(/^image-/);
    expect(await codeOf(() => rock.use("a", id))).toBe("sandbox-not-running");
  });

  test("another tenant's sandbox is as unknown as one that never was", async () => {
    await using rock = await service();
    const { id } = rock.create("a", { spec: spec() });
    await rock.wait("a", id);
    for (const attempt of [
      () => rock.get("b", id),
      () => rock.use("b", id),
      () => rock.stop("b", id),
      () => rock.delete("b", id),
      () => rock.wait("b", id),
    ])
      expect(await codeOf(attempt)).toBe("sandbox-unknown");
    expect(rock.list("b")).toEqual([]);
    expect(rock.list("a")).toHaveLength(1);
  });

  test("quotas refuse what is too much and free what was deleted", async () => {
    await using rock = await service({ quota: quota({ sandboxes: 1 }) });
    const { id } = rock.create("a", { spec: spec() });
    expect(await codeOf(() => rock.create("a", { spec: spec() }))).toBe("quota-exceeded");
    await rock.delete("a", id);
    expect(await codeOf(() => rock.create("a", { spec: spec() }))).toBe("none");
  });

  test("limits above the host are refused before anything is made", async () => {
    await using rock = await service();
    const tooMuch = spec({ limits: { memoryBytes: 2 ** 50 } });
    expect(await codeOf(() => rock.create("a", { spec: tooMuch }))).toBe("limits-above-host");
    expect(rock.list("a")).toEqual([]);
  });

  test("the same idempotency key makes one sandbox, and never stands for another request", async () => {
    await using rock = await service();
    const idempotency = { key: "k", digest: "1" };
    const first = rock.create("a", { spec: spec(), idempotency });
    expect(rock.create("a", { spec: spec(), idempotency }).id).toBe(first.id);
    const other = { key: "k", digest: "2" };
    expect(await codeOf(() => rock.create("a", { spec: spec(), idempotency: other }))).toBe(
      "idempotency-conflict",
    );
  });

  test("deleting while it starts leaves nothing behind", async () => {
    await using rock = await service();
    const before = (await driver()).list().length;
    const { id } = rock.create("a", { spec: spec() });
    expect((await rock.delete("a", id)).state).toBe("deleted");
    expect((await driver()).list()).toHaveLength(before);
  });

  test("a sandbox that ends by itself is seen to end, with the reason", async () => {
    await using rock = await service();
    const seen: string[] = [];
    const { id } = rock.create("a", { spec: spec({ limits: { lifetimeMs: 300 } }) });
    const record: SandboxRecord = await rock.wait("a", id, { states: ["stopped", "deleted"] });
    seen.push(...record.history.map(({ event }) => event));
    expect(seen).toEqual(["create", "create", "lifetime"]);
    expect(record.endReason).toBe("lifetime");
  });

  test("while its state cannot be written nothing new is made, and what ends is still seen to end", async () => {
    const directory = mkdtempSync(join(tmpdir(), "ale-service-"));
    await using rock = await service({ directory });
    const { id } = rock.create("a", { spec: spec({ limits: { lifetimeMs: 300 } }) });
    await rock.wait("a", id);
    rmSync(directory, { recursive: true });
    expect(await codeOf(() => rock.create("a", { spec: spec() }))).toBe("state-unwritable");
    expect((await rock.wait("a", id, { states: ["stopped", "deleted"] })).endReason).toBe("lifetime");
  });

  test("labels find sandboxes; the server's own labels cannot be forged", async () => {
    await using rock = await service();
    rock.create("a", { spec: spec({ labels: { run: "1" } }) });
    rock.create("a", { spec: spec({ labels: { run: "2" } }) });
    expect(rock.list("a", { labels: { run: "2" } })).toHaveLength(1);
    const forged = spec({ labels: { "ale.tenant": "b" } });
    expect(await codeOf(() => rock.create("a", { spec: forged }))).toBe("label-reserved");
  });
});
