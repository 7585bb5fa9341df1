import { describe, expect, it } from "vitest";
import { NetworkChange, NetworkPhases, NetworkPolicy, policyAfter } from "../src/index.ts";

const agent = NetworkPolicy.parse({
  mode: "allowlist",
  hosts: [{ name: "agent.test" }],
  budget: { bytesUp: 1_000 },
  hostBudget: { requests: 5, connections: 3 },
});

describe("budgets after a change of policy", () => {
  it.each([
    ["stay where it names none", { mode: "open" }, { bytesUp: 1_000 }, { requests: 5, connections: 3 }],
    [
      "are those that it names, and stay otherwise",
      { mode: "open", budget: { requests: 9 }, hostBudget: { requests: 4 } },
      { bytesUp: 1_000, requests: 9 },
      { requests: 4, connections: 3 },
    ],
  ])("%s", (_name, change, budget, hostBudget) => {
    const after = policyAfter(NetworkChange.parse(change), agent);
    expect(after).toMatchObject({ mode: "open", budget, hostBudget });
    // What follows is a whole policy again.
    expect(NetworkPolicy.parse(after)).toEqual(after);
  });

  it("are the usual ones where there were none", () => {
    const after = policyAfter(NetworkChange.parse({ mode: "open" }), { mode: "none" });
    expect(after).toEqual(NetworkPolicy.parse({ mode: "open" }));
  });

  it("are the agent's in a phase of an instance that names none", () => {
    const { install } = NetworkPhases.parse({
      install: { mode: "allowlist", hosts: [{ name: "setup.test" }] },
    });
    expect(policyAfter(install, agent)).toMatchObject({
      hosts: [{ name: "setup.test" }],
      budget: { bytesUp: 1_000 },
      hostBudget: { requests: 5, connections: 3 },
    });
  });
});
