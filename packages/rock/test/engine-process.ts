import { startEngine } from "./engine.ts";

/** Run by docker-engine.test.ts as a process of its own: starts an engine, tells its directory, and stays until it is killed. */
console.log((await startEngine()).directory);
setInterval(() => {}, 60_000);
