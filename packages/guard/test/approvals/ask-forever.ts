import { ApprovalStore } from "../../src/index.ts";

/** Waits in a folder for an approval; says so when it has one. */
const [directory = "", id = ""] = process.argv.slice(2);
const answer = await new ApprovalStore(directory).ask({
  id,
  episode: "ep_1",
  chunk: 0,
  callId: "call_0",
  rule: "ask:bash",
  what: "$ rm -rf /",
});
process.stdout.write(JSON.stringify(answer));
