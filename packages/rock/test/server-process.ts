import { serveRock } from "../src/server/index.ts";

/** Run by server-life.test.ts as a process of its own: serves the home argv[2] on a free port until it is told to end or killed. */
const ending = new AbortController();
process.once("SIGTERM", () => ending.abort());
const server = await serveRock({ home: process.argv[2]!, port: 0, signal: ending.signal });
console.log(server.url);
await server.closed;
