import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { expect, onTestFinished, test, vi } from "vitest";
import { ApprovalStore, approvalChanges } from "../../src/index.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "ale-approvals-"));
  onTestFinished(() => rm(made, { recursive: true, force: true }));
  return join(made, "approvals");
}

const request = (id: string) => ({
  id,
  episode: "ep_1",
  chunk: 3,
  callId: "call_3",
  rule: "destructive-command",
  what: "$ rm -rf /etc",
});

/** Another process that waits for an answer. */
async function asker(directory: string, id: string): Promise<ChildProcess> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "ask-forever.ts"), directory, id], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => void child.kill("SIGKILL"));
  const store = new ApprovalStore(directory);
  await vi.waitFor(() => expect(store.pending().map((one) => one.id)).toContain(id), { timeout: 20_000 });
  return child;
}

test("an answer from another process reaches the one that waits", async () => {
  const directory = await folder();
  const child = await asker(directory, "ap_1");
  const store = new ApprovalStore(directory);
  expect(store.pending()).toMatchObject([{ id: "ap_1", rule: "ask:bash", what: "$ rm -rf /" }]);
  expect(store.answer("ap_1", { granted: true, by: "user:ada", reason: "a copy" })).toEqual({
    type: "counted",
  });
  expect(JSON.parse(await text(child.stdout!))).toEqual({ granted: true, by: "user:ada", reason: "a copy" });
  expect(store.pending()).toEqual([]);
});

test("of two answers the first counts, and the second is told so", async () => {
  const store = new ApprovalStore(await folder());
  const asked = store.ask(request("ap_1"));
  const first = { granted: false, by: "user:ada" };
  expect(store.answer("ap_1", first)).toEqual({ type: "counted" });
  expect(store.answer("ap_1", { granted: true, by: "user:eve" })).toMatchObject({
    type: "late",
    answer: first,
  });
  expect(await asked).toEqual(first);
  expect(store.answer("ap_1", { granted: true, by: "user:eve" })).toMatchObject({
    type: "late",
    answer: first,
  });
});

test("nobody's answer is no", async () => {
  const store = new ApprovalStore(await folder(), { timeoutMs: 50 });
  expect(await store.ask(request("ap_1"))).toEqual({ granted: false, by: "timeout" });
  expect(store.answer("ap_1", { granted: true, by: "user:ada" })).toMatchObject({
    type: "late",
    answer: { granted: false, by: "timeout" },
  });
});

test("a request whose process was killed waits for nobody", async () => {
  const directory = await folder();
  const child = await asker(directory, "ap_1");
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  const store = new ApprovalStore(directory);
  expect(store.pending()).toEqual([]);
  expect(store.answer("ap_1", { granted: true, by: "user:ada" })).toEqual({ type: "abandoned" });
  expect(store.get("ap_1")).toMatchObject({ type: "abandoned", approval: { id: "ap_1" } });
});

test("a cancelled episode asks no longer", async () => {
  const store = new ApprovalStore(await folder());
  const controller = new AbortController();
  const asked = store.ask(request("ap_1"), controller.signal);
  controller.abort(new Error("cancelled"));
  await expect(asked).rejects.toThrow("cancelled");
  expect(store.pending()).toEqual([]);
  expect(store.answer("ap_1", { granted: true, by: "user:ada" })).toMatchObject({ type: "late" });
});

test.each([
  // The id of the one that is meant, or what is said instead.
  ["ap_01kabcdefga", "ap_01kabcdefga"],
  ["ap_01kabcdefg", /2 requests begin with "ap_01kabcdefg": ap_01kabcdefga, ap_01kabcdefgb/],
  ["ap_01kabcde", /2 requests begin/],
  ["ap_01kxyzxy", "ap_01kxyzxyza"],
  ["ap_01kxyzx", /"ap_01kxyzx" names no approval/],
  ["ap_", /names no approval/],
  ["a", /names no approval/],
  ["", /"" names no approval/],
  ["   ", /names no approval/],
  ["../approvals/ap_01kxyzxyza", /nothing waits/],
  ["ap_01knothing", /nothing waits for approval under "ap_01knothing"/],
  ["ap_01kabcdefz", "ap_01kabcdefz0"],
  [
    "ap_01koverove",
    /all requests that begin with "ap_01koverove" are over: ap_01koverovera, ap_01koveroverb/,
  ],
  ["ap_01kxyzxyzb", "ap_01kxyzxyzb"],
])("%j names a request that waits, one that is over, or nothing: %s", async (word, named) => {
  const store = new ApprovalStore(await folder(), { timeoutMs: 20_000 });
  const controller = new AbortController();
  const over = ["ap_01kxyzxyzb", "ap_01kabcdefz0", "ap_01koverovera", "ap_01koveroverb"];
  for (const id of over) {
    const asked = store.ask(request(id));
    store.answer(id, { granted: false, by: "user:ada" });
    await asked;
  }
  const living = ["ap_01kabcdefga", "ap_01kabcdefgb", "ap_01kxyzxyza"];
  const waiting = living.map((id) => store.ask(request(id), controller.signal));
  if (typeof named === "string") expect(store.find(word).id).toBe(named);
  else expect(() => store.find(word)).toThrow(named);
  // An answer is of a whole id alone.
  if (word !== named)
    expect(() => store.answer(word, { granted: true, by: "user:ada" })).toThrow("nothing waits");
  expect(store.pending()).toHaveLength(living.length);
  controller.abort(new Error("over"));
  for (const one of waiting) await expect(one).rejects.toThrow("over");
});

test("what becomes of a request can be looked up for a day", async () => {
  const store = new ApprovalStore(await folder(), { timeoutMs: 60_000 });
  const asked = store.ask(request("ap_1"));
  const state = store.get("ap_1");
  expect(state).toMatchObject({ type: "pending", approval: { id: "ap_1", what: "$ rm -rf /etc" } });
  expect(state?.type === "pending" && state.approval.leftMs).toBeGreaterThan(50_000);
  store.answer("ap_1", { granted: false, by: "user:ada", reason: "no" });
  await asked;
  expect(store.get("ap_1")).toMatchObject({
    type: "answered",
    answer: { granted: false, by: "user:ada", reason: "no", at: expect.any(Number) },
  });
  expect(store.get("ap")).toBeUndefined();
  expect(store.get("../ap_1")).toBeUndefined();
});

test("a sandbox that does not live so long shortens the wait, and the answer says so", async () => {
  const store = new ApprovalStore(await folder(), { timeoutMs: 600_000 });
  expect(await store.ask({ ...request("ap_1"), withinMs: 40 })).toEqual({
    granted: false,
    by: "timeout",
    reason: "the sandbox would not have lived until a later answer",
  });
});

test.each([
  ["back", -400 * DAY],
  ["forward", 400 * DAY],
])("a wall clock that is set %s changes nothing for who waits", async (_where, by) => {
  const directory = await folder();
  const store = new ApprovalStore(directory, { timeoutMs: 900 });
  const began = performance.now();
  const [answered, silent] = [store.ask(request("ap_1")), store.ask(request("ap_2"))];
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + by });
  onTestFinished(() => void vi.useRealTimers());
  const elsewhere = new ApprovalStore(directory);
  expect(elsewhere.pending().map(({ id }) => id)).toEqual(["ap_1", "ap_2"]);
  for (const { leftMs } of elsewhere.pending()) expect(leftMs).toBeLessThanOrEqual(900);
  // Somebody else's clean-up, by the clock as it is now.
  const third = elsewhere.ask(request("ap_3"), AbortSignal.timeout(20));
  await expect(third).rejects.toThrow();
  expect(elsewhere.answer("ap_1", { granted: true, by: "user:ada" })).toEqual({ type: "counted" });
  expect(await answered).toEqual({ granted: true, by: "user:ada" });
  expect(await silent).toEqual({ granted: false, by: "timeout" });
  expect(performance.now() - began).toBeGreaterThan(850);
  expect(performance.now() - began).toBeLessThan(10_000);
});

/** As if the file had been written that long ago. */
const age = (path: string, ms: number): void => utimesSync(path, new Date(), new Date(Date.now() - ms));

test("listing removes what is over for more than a day, and nothing that somebody waits for", async () => {
  const directory = await folder();
  const store = new ApprovalStore(directory, { timeoutMs: 1 });
  for (const id of ["ap_old", "ap_young"]) await store.ask(request(id));
  const waiting = new ApprovalStore(directory).ask(request("ap_waits"));
  const child = await asker(directory, "ap_killed");
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await ended;
  writeFileSync(join(directory, "ap_torn.json"), "{");
  writeFileSync(join(directory, ".draft-1-a"), "{");
  for (const name of readdirSync(directory))
    if (!name.startsWith("ap_young")) age(join(directory, name), 25 * HOUR);

  expect(new ApprovalStore(directory).pending().map(({ id }) => id)).toEqual(["ap_waits"]);
  expect(readdirSync(directory).sort()).toEqual(["ap_waits.json", "ap_young.answer.json", "ap_young.json"]);
  store.answer("ap_waits", { granted: false, by: "user:ada" });
  await waiting;
});

test("of what is over only a thousand stay, the youngest", async () => {
  const directory = await folder();
  const store = new ApprovalStore(directory, { timeoutMs: 1 });
  await store.ask(request("ap_1"));
  const [asked, answered] = ["ap_1.json", "ap_1.answer.json"].map((name) =>
    readFileSync(join(directory, name), "utf8"),
  );
  for (let n = 0; n < 1_100; n++) {
    writeFileSync(join(directory, `ap_n${n}.json`), asked!);
    writeFileSync(join(directory, `ap_n${n}.answer.json`), answered!);
    age(join(directory, `ap_n${n}.answer.json`), n < 1_050 ? HOUR + n * 1_000 : 0);
  }
  expect(new ApprovalStore(directory).pending()).toEqual([]);
  const kept = readdirSync(directory);
  expect(kept).toHaveLength(2_000);
  expect(kept).toContain("ap_n1099.json");
  expect(kept).not.toContain("ap_n1049.json");
});

test("more than people can answer or read is refused at once", async () => {
  const directory = await folder();
  const store = new ApprovalStore(directory, { timeoutMs: 60_000 });
  expect(await store.ask({ ...request("ap_long"), what: "x".repeat(200_001) })).toMatchObject({
    granted: false,
    by: "policy",
    reason: expect.stringContaining("200001 characters"),
  });
  const first = store.ask(request("ap_0"));
  const text = readFileSync(join(directory, "ap_0.json"), "utf8");
  for (let n = 1; n < 1_000; n++)
    writeFileSync(join(directory, `ap_${n}.json`), text.replace('"ap_0"', `"ap_${n}"`));
  expect(await store.ask(request("ap_more"))).toMatchObject({
    granted: false,
    by: "policy",
    reason: expect.stringContaining("1000 calls wait"),
  });
  store.answer("ap_0", { granted: false, by: "user:ada" });
  await first;
});

test("where nothing can be written nobody can be asked, and the error says where", async () => {
  const made = await folder();
  writeFileSync(made, "a file, where the folder should be");
  await expect(new ApprovalStore(made).ask(request("ap_1"))).rejects.toMatchObject({
    code: "approvals-unwritable",
    next: expect.stringContaining(made),
  });
});

test("changes are told as they come: what waits, who answered, and that nobody waits any more", async () => {
  const directory = await folder();
  const store = new ApprovalStore(directory);
  const over = new AbortController();
  const first = store.ask(request("ap_1"));
  const told = approvalChanges(new ApprovalStore(directory), over.signal);
  const next = async () => (await told.next()).value;
  expect(await next()).toMatchObject({ type: "asked", approval: { id: "ap_1" } });
  store.answer("ap_1", { granted: true, by: "token:tok-1" });
  expect(await next()).toMatchObject({ type: "over", id: "ap_1", answer: { by: "token:tok-1" } });
  const child = await asker(directory, "ap_2");
  expect(await next()).toMatchObject({ type: "asked", approval: { id: "ap_2" } });
  child.kill("SIGKILL");
  expect(await next()).toEqual({ type: "over", id: "ap_2", answer: null });
  over.abort();
  expect((await told.next()).done).toBe(true);
  await first;
});

test("an answer cannot be put anywhere else", async () => {
  const directory = await folder();
  const store = new ApprovalStore(directory, { timeoutMs: 1 });
  await store.ask(request("ap_1"));
  await writeFile(join(directory, "../outside.json"), "{}");
  expect(() => store.answer("../outside", { granted: true, by: "user:eve" })).toThrow("nothing waits");
  expect(existsSync(join(directory, "../outside.answer.json"))).toBe(false);
  await expect(store.ask(request("../x"))).rejects.toThrow("not an id");
});

test("others cannot read what is asked", async () => {
  const directory = await folder();
  await new ApprovalStore(directory, { timeoutMs: 1 }).ask(request("ap_1"));
  expect(statSync(directory).mode & 0o777).toBe(0o700);
  for (const name of ["ap_1.json", "ap_1.answer.json"])
    expect(statSync(join(directory, name)).mode & 0o777).toBe(0o600);
});
