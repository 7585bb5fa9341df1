import { connect } from "node:net";
import { probeCgroups, processesOf } from "../src/host/cgroup.ts";
import { openOciDriver } from "../src/index.ts";
import { allowing, networkSpec } from "./network-support.ts";
import { until } from "./support.ts";

/**
 * Run by network-life.test.ts as a process of its own: a durable driver under argv[2] with one sandbox, which asks `http://files.test/` without end
 * in the background. The name leads to port argv[3] of loopback. Tells of the sandbox, and stays until it is killed.
 */
const upstream = {
  resolve: async () => ["203.0.113.5"],
  dial: () => connect({ host: "127.0.0.1", port: Number(process.argv[3]) }),
};
const driver = openOciDriver({ home: process.argv[2]!, durable: "server", egress: { upstream } });
const box = await driver.create(networkSpec(allowing("other.test"), { id: `net-${process.pid}` }));
await box.setNetwork(allowing("files.test"));
const ask = `printf 'GET / HTTP/1.1\\r\\nHost: files.test\\r\\nConnection: close\\r\\n\\r\\n' >&3; cat <&3`;
const loop = `while :; do (exec 3<>/dev/tcp/files.test/80; ${ask}) >/dev/null 2>&1; sleep 0.02; done`;
const running = await box.start({ argv: ["bash", "-c", loop], timeoutMs: 600_000 });
const pids = (): number[] => processesOf(probeCgroups(), box.id);
await until("it runs", () => pids().length > 1);
console.log(JSON.stringify({ id: box.id, init: Math.min(...pids()), inside: running.pid }));
setInterval(() => {}, 60_000);
